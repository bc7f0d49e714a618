// The playground: asks /v1/completions for a stream and shows every token, its surprise and what else was likely.

const BITS = 1 / Math.LN2; // bits per nat
const FULL_BITS = 8; // per character, at which the colour is full
const BREATH_MS = 50; // a page that is busy for longer does not hear its keys
// Name, label, least, most, step, explanation; where a slider begins, the server says.
const SLIDERS = [
  ["temperature", "Temperature", 0, 2, 0.05, "0 takes the likeliest token; above 1 is wilder"],
  ["top_p", "Top-p", 0.05, 1, 0.01, "Draw among the likeliest tokens of this mass; 1: all"],
  ["top_k", "Top-k", 0, 50, 1, "Draw among the k likeliest tokens; 0: all"],
  ["repetition_penalty", "Repetition penalty", 1, 2, 0.05, "Above 1, tokens of the text so far are less likely"],
  ["max_tokens", "Length in tokens", 10, 1000, 10, "The text ends after so many tokens"],
];

const byId = (id) => document.getElementById(id);
const ui = Object.fromEntries(
  ["form", "prompt", "generate", "stop", "again", "other", "seed", "text", "status", "next"].map((id) => [
    id,
    byId(id),
  ]),
);
let running = null; // the AbortController of the stream that runs
let lastSeed = null;
let tokens = []; // {name, nats, top, node} of the text that is shown
let total = { characters: 0, bits: 0 }; // of them all
let shown = -1; // the token whose alternatives are shown
let isFollowing = true; // whether that is always the last one

/** Make an element with a class, attributes and children. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A token for reading: spaces and line breaks visible. */
const visible = (text) => text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥") || "∅";

function say(line, isError = false) {
  ui.status.textContent = line;
  ui.status.classList.toggle("error", isError);
}

/** The request that the page describes, with a seed. */
function request(seed) {
  const values = SLIDERS.map(([name]) => [name, Number(byId(name).value)]);
  return {
    prompt: ui.prompt.value,
    ...Object.fromEntries(values),
    ...(seed !== null && { seed }),
    stream: true,
    logprobs: 5,
  };
}

/** Yield the objects of a stream of server-sent events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (part === "data: [DONE]") return;
      yield JSON.parse(part.slice("data: ".length));
    }
  }
}

/** Ask for a text and show it as it comes; `seed` null: the server draws one. */
async function generate(seed) {
  running?.abort();
  const own = new AbortController();
  running = own;
  const started = performance.now();
  let first = null;
  let breath = started;
  clear(ui.prompt.value);
  setBusy(true);
  try {
    const body = JSON.stringify(request(seed));
    const response = await fetch("v1/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal: own.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response)) {
      if (own !== running) return; // a later text has begun
      if (event.error) throw new Error(event.error.message);
      first ??= performance.now();
      lastSeed = event.seed;
      add(event.choices[0]);
      say(summary(started, first));
      if (performance.now() - breath > BREATH_MS) {
        await new Promise((go) => setTimeout(go));
        breath = performance.now();
      }
    }
  } catch (error) {
    if (own !== running) return;
    if (error.name === "AbortError") say(`${summary(started, first ?? started)}, stopped`);
    else say(error instanceof TypeError ? "The server does not answer: is it still running?" : error.message, true);
  } finally {
    if (own === running) {
      running = null;
      setBusy(false);
    }
  }
}

/** One line on the text so far. */
function summary(started, first) {
  const seconds = (performance.now() - first) / 1000;
  const { characters, bits } = total;
  const speed =
    tokens.length > 1 && seconds > 0 ? `, ${Math.round(tokens.length / seconds).toLocaleString("en")} tokens/s` : "";
  const surprise = characters ? `, ${(bits / characters).toFixed(2)} bits per character` : "";
  return `seed ${lastSeed ?? "–"}: ${tokens.length} tokens${surprise}, first after ${Math.round(first - started)} ms${speed}`;
}

function setBusy(isBusy) {
  ui.text.classList.toggle("busy", isBusy);
  ui.text.setAttribute("aria-busy", isBusy);
  ui.stop.disabled = !isBusy;
  ui.again.disabled = ui.other.disabled = lastSeed === null;
}

function clear(prompt) {
  tokens = [];
  total = { characters: 0, bits: 0 };
  shown = -1;
  isFollowing = true;
  ui.next.replaceChildren();
  ui.text.replaceChildren(el("span", { class: "prompt" }, prompt));
  say("…");
}

/** Append the tokens of a piece of the text; offsets are characters of the whole text. */
function add({ text, logprobs }) {
  const { text_offset: offsets, token_logprobs: costs, top_logprobs: tops, tokens: names } = logprobs;
  const characters = Array.from(text);
  offsets.forEach((offset, i) => {
    const from = i === 0 ? 0 : offset - offsets[0];
    const to = i + 1 < offsets.length ? offsets[i + 1] - offsets[0] : characters.length;
    const piece = characters.slice(from, to).join("");
    const bits = -costs[i] * BITS;
    const node = el("span", { class: "token", "data-i": tokens.length, tabindex: -1 }, piece);
    node.style.setProperty("--v", Math.min(1, bits / Math.max(1, to - from) / FULL_BITS).toFixed(3));
    total = { characters: total.characters + to - from, bits: total.bits + bits };
    tokens.push({ name: names[i], nats: -costs[i], top: tops[i], node });
    ui.text.append(node);
  });
  if (!offsets.length && text) ui.text.append(text); // the rest of a token that has begun before
  if (isFollowing && tokens.length) show(tokens.length - 1);
}

/** Show what the model expected where token `i` came. */
function show(i) {
  if (tokens[shown]) {
    tokens[shown].node.classList.remove("on");
    tokens[shown].node.tabIndex = -1;
  }
  shown = i;
  const token = tokens[i];
  token.node.classList.add("on");
  token.node.tabIndex = 0;
  const rows = Object.entries(token.top).sort((a, b) => b[1] - a[1]);
  if (!(token.name in token.top)) rows.push([token.name, -token.nats]);
  ui.next.replaceChildren(
    el(
      "h2",
      {},
      `Token ${i + 1}, `,
      el("b", {}, visible(token.name)),
      `: ${(token.nats * BITS).toFixed(2)} bits. The model, before sampling, expected`,
    ),
    ...rows.map(([name, nats]) => bar(name, Math.exp(nats), name === token.name)),
  );
}

function bar(name, share, isTaken) {
  const fill = el("i");
  fill.style.setProperty("--p", share.toFixed(4));
  const percent = share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`;
  return el(
    "div",
    { class: isTaken ? "bar taken" : "bar" },
    el("code", {}, visible(name)),
    el("div", {}, fill),
    el("span", {}, percent),
  );
}

/** Move from token to token. */
function go(i) {
  if (!tokens.length) return;
  isFollowing = false;
  show(Math.max(0, Math.min(tokens.length - 1, i)));
  tokens[shown].node.focus();
}

function wantedSeed() {
  return ui.seed.value.trim() === "" ? null : Number(ui.seed.value);
}

/** A text with another seed; a seed that was typed makes way. */
function other() {
  ui.seed.value = "";
  generate(null);
}

function listen() {
  ui.form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate(wantedSeed());
  });
  ui.seed.addEventListener("invalid", () => (byId("settings").open = true));
  ui.stop.addEventListener("click", () => running?.abort());
  ui.again.addEventListener("click", () => generate(lastSeed));
  ui.other.addEventListener("click", other);
  const follow = (event) => {
    const node = event.target.closest(".token");
    if (!node) return;
    isFollowing = false;
    show(Number(node.dataset.i));
  };
  for (const kind of ["pointerover", "focusin", "click"]) ui.text.addEventListener(kind, follow);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
    else if (event.key === "Enter" && event.altKey) other();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.shiftKey)
      generate(lastSeed ?? wantedSeed());
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ui.form.requestSubmit();
    else return;
    event.preventDefault();
  });
  ui.text.addEventListener("keydown", (event) => {
    const target = { ArrowLeft: shown - 1, ArrowRight: shown + 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    go(target);
  });
  byId("theme").addEventListener("click", () => {
    const isDark =
      document.documentElement.classList.contains("dark") ||
      (!document.documentElement.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.className = isDark ? "light" : "dark";
  });
}

function addSliders(limits, defaults) {
  for (const [id, label, min, most, step, title] of SLIDERS) {
    const max = id === "max_tokens" ? Math.min(most, limits.max_tokens) : most;
    const input = el("input", { id, type: "range", min: Math.min(min, max), max, step: max < most ? 1 : step });
    const output = el("output", { for: id });
    input.value = defaults[id];
    const update = () => (output.textContent = input.value);
    input.addEventListener("input", update);
    update();
    byId("sliders").append(el("label", { class: "slider", title }, el("span", {}, label), input, output));
  }
}

/** Say which model this is and begin. */
async function start() {
  const { data } = await (await fetch("v1/models")).json();
  const [model] = data;
  const source = [model.corpus.title, model.corpus.author].filter(Boolean).join(", ");
  byId("name").textContent = model.id;
  byId("about").textContent =
    `${model.parameters.toLocaleString("en")} parameters, level ${model.level}, sees ${model.context} tokens. Trained on ${source}.`;
  ui.prompt.lang = ui.text.lang = model.corpus.language || "";
  ui.prompt.value ||= model.example_prompt;
  ui.prompt.maxLength = model.limits.max_prompt_characters;
  addSliders(model.limits, model.defaults);
  if (matchMedia("(max-width: 56rem)").matches) byId("settings").open = false;
  listen();
}

start().catch(() => say("The server does not answer: is it still running?", true));
