// What every picture needs: the data, elements, numbers for reading, the chosen model, the theme.

const DATA = JSON.parse(document.getElementById("data").textContent);
const MODELS = DATA.models.map((model) => ({ name: model.meta.name, ...model })); // the best first
const SPLIT = DATA.main_split;
const LANGUAGE = DATA.corpus.language || "";
const BITS = 1 / Math.LN2; // bits per nat

/** The element with an id. */
const byId = (id) => document.getElementById(id);

/** Make an element: el("p.note", {title: "x"}, "text", child). A function becomes a listener, null is left out. */
function el(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElement(tag), { ...(classes.length && { class: classes.join(" ") }), ...props }, children);
}

/** Make an SVG element. */
function svg(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(node, { ...(classes.length && { class: classes.join(" ") }), ...props }, children);
}

/** Give an element its attributes, listeners and children. */
function fill(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Say what is missing and why, in place of a picture. */
const absent = (sentence) => el("p.absent", {}, sentence);

/** A count with thin groups: 779,904. */
const count = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

/** A number with so many decimals, "–" if there is none. */
const fixed = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** A share as a percentage with two figures that matter: 0.034 is 3.4 %. */
function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  if (value === 0 || value >= 10) return `${value.toFixed(0)} %`;
  if (value >= 0.1) return `${value.toFixed(1)} %`;
  return value < 0.01 ? "< 0.01 %" : `${value.toFixed(2)} %`;
}

/** A difference with its sign, and a true minus. */
const signed = (value, digits = 3) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

/** Seconds as minutes for reading: 1:39. */
const minutes = (seconds) =>
  `${Math.floor(Math.round(seconds) / 60)}:${String(Math.round(seconds) % 60).padStart(2, "0")}`;

/** Text with its invisible characters shown: a line break as ↵, a space as ␣ where it ends, begins or is the text. */
const visible = (text) => text.replace(/\n/g, "↵").replace(/\t/g, "→").replace(/^ | $/g, "␣") || "∅";

/** Part of a text given as an array of its characters: Python counts characters, JavaScript halves of some. */
const part = (characters, from, to) => characters.slice(from, to).join("");

/** The colour of a model, the same everywhere. */
const modelColor = (index) => `var(--m${index % 8})`;

/** Keep a number inside bounds. */
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** A colour of the palette as the browser computes it, for canvases. */
function computedColor(name) {
  const probe = document.body.appendChild(el("i", { style: `color: var(--${name}); display: none` }));
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

const watchers = { model: [], theme: [] };
let chosen = MODELS[0].name;

/** Call `draw` now and whenever the theme changes. */
function onTheme(draw) {
  watchers.theme.push(draw);
  draw();
}

/** Call `draw(model)` now and whenever another model is chosen. */
function onModel(draw) {
  watchers.model.push(draw);
  draw(MODELS.find((model) => model.name === chosen));
}

/** Choose a model in every section at once. */
function choose(name) {
  chosen = name;
  document.querySelectorAll(".picker input").forEach((input) => (input.checked = input.value === name));
  watchers.model.forEach((draw) => draw(MODELS.find((model) => model.name === name)));
}

/** A row of options of which one is chosen; `changed` receives its value. */
function choice(legend, name, options, value, changed) {
  const option = ([key, label]) =>
    el(
      "label",
      {},
      el("input", { type: "radio", name, value: key, checked: key === value, change: () => changed(key) }),
      label,
    );
  return el("fieldset.choice", {}, el("legend", {}, legend), options.map(option));
}

/** Put a chooser of models into every place made for one. */
function fillPickers() {
  document.querySelectorAll(".picker").forEach((place, index) => {
    const options = MODELS.map((model) => [model.name, model.name]);
    place.append(choice("Model", `model-${index}`, options, chosen, choose));
  });
}

/** Call `draw(width)` now and when the width of `node` changes. */
function onWidth(node, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.floor(node.clientWidth);
    if (!width || width === last) return;
    last = width;
    draw(width);
  }).observe(node);
}

/** Move with the arrow keys: `moves` maps a key to a function; the page does not scroll then. */
function onKeys(node, moves) {
  node.addEventListener("keydown", (event) => {
    if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    moves[event.key]();
  });
}

/** Alternatives as small bars: rows of [text, probability], the one that came marked; `scale` is a full bar. */
function bars(rows, truth, scale = 1) {
  const row = ([text, share]) => [
    el(`span.label${text === truth ? ".true" : ""}`, { lang: LANGUAGE }, visible(text)),
    el("span.bar", {}, el("i", { style: `width: ${clamp((share / scale) * 100, 0, 100)}%` })),
    el("span", {}, percent(share)),
  ];
  return el("div.bars", {}, rows.map(row));
}
