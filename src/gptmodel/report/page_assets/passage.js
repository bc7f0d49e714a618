// One unseen passage in every model's tokens, aligned by character, with what each model expected.

const FULL_PER_CHARACTER = 8; // bits at which the colour is full
const FULL_PER_TOKEN = 16;

/** Tokens that share a character (a byte-level model may cut one) as one: losses added, the first one's guesses. */
function joined(tokens) {
  const whole = [];
  for (const token of tokens) {
    const last = whole.at(-1);
    if (last && token.start < last.end)
      Object.assign(last, { end: Math.max(last.end, token.end), nats: last.nats + token.nats, isCut: true });
    else whole.push({ ...token });
  }
  return whole;
}

/** Every model as a reader of the passage, with the token of every character. */
function passageReaders(length) {
  return MODELS.map(({ name, inspection }, index) => {
    const tokens = joined(inspection.surprisal);
    const at = new Array(length).fill(0);
    tokens.forEach((token, i) => {
      at.fill(i, token.start, token.end);
    });
    return { name, index, tokens, at, nodes: [] };
  });
}

/** Where all the models begin a token: only there a line may end. */
function commonStarts(readers, length) {
  const [first, ...others] = readers.map(({ tokens }) => new Set(tokens.map((token) => token.start)));
  return [...first]
    .filter((start) => others.every((starts) => starts.has(start)))
    .concat(length)
    .sort((a, b) => a - b);
}

/** Cut the text (its characters) into lines of at most `columns`, before a space where one is near: [[from, to] …]. */
function cutLines(starts, columns, text) {
  const lines = [];
  for (let from = 0; from < text.length; from = lines.at(-1)[1]) {
    const near = starts.filter((start) => start > from && start <= from + columns);
    const seams = near.filter(
      (start) => start === text.length || (/\s/.test(text[start]) && start > from + columns * 0.6),
    );
    lines.push([from, seams.at(-1) ?? near.at(-1) ?? starts.find((start) => start > from)]);
  }
  return lines;
}

/** The loss of a token in bits, and in bits per character of it. */
function bitsOf(token) {
  const bits = token.nats * BITS;
  return { bits, perCharacter: bits / Math.max(1, token.end - token.start) };
}

class Passage {
  /** Draw `text`, an array of characters, into `node`; `readers` come from `passageReaders`. */
  constructor(node, readers, text) {
    Object.assign(this, { readers, text, unit: "character", columns: 0, at: [0, 0] });
    this.place = el("div.passage", {
      role: "group",
      "aria-label": "The passage in every model's tokens; arrow keys move",
      lang: LANGUAGE,
    });
    this.panel = el("div.panel", { "aria-live": "polite" });
    this.full = el("span");
    const units = [
      ["character", "per character"],
      ["token", "per token"],
    ];
    node.append(
      choice("Colour by bits", "unit", units, this.unit, (unit) => this.colourBy(unit)),
      el(
        "p.key",
        {},
        "0",
        el("span.scale"),
        this.full,
        " · rows from the top: ",
        readers.map((r) => [el("span.swatch", { style: `color: ${modelColor(r.index)}` }), `${r.name}  `]),
      ),
      this.place,
      this.panel,
    );
    this.listen();
    onWidth(this.place, (width) => this.layOut(width));
  }

  /** Cut the lines for a width and make the tokens. */
  layOut(width) {
    const probe = this.place.appendChild(el("span", {}, "0".repeat(100)));
    const character = probe.getBoundingClientRect().width / 100;
    probe.remove();
    const names = width < 620 ? 10 : 110;
    const columns = Math.max(12, Math.floor((width - names) / character) - 1);
    if (columns === this.columns) return;
    this.columns = columns;
    this.readers.forEach((reader) => (reader.nodes = []));
    const starts = commonStarts(this.readers, this.text.length);
    this.place.replaceChildren(...cutLines(starts, columns, this.text).map((line) => this.line(line)));
    this.paint();
    this.select(...this.at);
  }

  /** One line of the passage: every model's tokens between two characters. */
  line([from, to]) {
    const names = this.readers.map((r) => el("span.who", { style: `color: ${modelColor(r.index)}` }, r.name));
    const rows = this.readers.map((reader, m) => {
      const inside = reader.tokens
        .map((token, i) => [token, i])
        .filter(([token]) => token.start >= from && token.start < to);
      return el(
        "div.row",
        { style: `--own: ${modelColor(reader.index)}` },
        inside.map(([token, i]) => this.token(reader, m, token, i)),
      );
    });
    return el("div.line", {}, el("div.names", { "aria-hidden": "true" }, names), el("div.tokens", {}, rows));
  }

  /** One token, as wide as its characters. */
  token(reader, m, token, i) {
    const text = part(this.text, token.start, token.end);
    const { bits } = bitsOf(token);
    reader.nodes[i] = el(
      "span.tok",
      {
        style: `width: ${token.end - token.start}ch`,
        tabindex: -1,
        "data-m": m,
        "data-i": i,
        role: "button",
        "aria-label": `${reader.name}: ${visible(text)}, ${bits.toFixed(1)} bits`,
      },
      text.replace(/\n/g, "↵"),
    );
    return reader.nodes[i];
  }

  /** Colour by the bits of a "character" or of a "token". */
  colourBy(unit) {
    this.unit = unit;
    this.paint();
  }

  /** Colour every token by its bits. */
  paint() {
    const isToken = this.unit === "token";
    const full = isToken ? FULL_PER_TOKEN : FULL_PER_CHARACTER;
    this.full.textContent = `${full} bits per ${this.unit} or more`;
    for (const { tokens, nodes } of this.readers)
      nodes.forEach((node, i) => {
        const { bits, perCharacter } = bitsOf(tokens[i]);
        node.style.setProperty("--v", clamp((isToken ? bits : perCharacter) / full, 0, 1).toFixed(3));
      });
  }

  /** Follow the pointer, the focus and the arrow keys. */
  listen() {
    const follow = (event) => {
      const token = event.target.closest(".tok");
      if (token) this.select(+token.dataset.m, +token.dataset.i);
    };
    for (const kind of ["pointerover", "focusin", "click"]) this.place.addEventListener(kind, follow);
    const go = (m, i) => {
      this.select(m, i);
      this.readers[m].nodes[i].focus();
    };
    const step = (by) => () => go(this.at[0], clamp(this.at[1] + by, 0, this.readers[this.at[0]].tokens.length - 1));
    const other = (by) => () => {
      const m = clamp(this.at[0] + by, 0, this.readers.length - 1);
      go(m, this.readers[m].at[this.current().start]);
    };
    onKeys(this.place, { ArrowLeft: step(-1), ArrowRight: step(1), ArrowUp: other(-1), ArrowDown: other(1) });
  }

  /** The token that is shown. */
  current() {
    return this.readers[this.at[0]].tokens[this.at[1]];
  }

  /** The indices of a reader's tokens that touch the shown token's characters. */
  touching(reader) {
    const { start, end } = this.current();
    return [...new Set(reader.at.slice(start, Math.max(end, start + 1)))];
  }

  /** Show token `i` of model `m`, and the same characters in the others. */
  select(m, i) {
    for (const node of this.place.querySelectorAll(".on, .with")) {
      node.classList.remove("on", "with");
      node.tabIndex = -1;
    }
    this.at = [m, i];
    const chosenNode = this.readers[m].nodes[i];
    chosenNode.classList.add("on");
    chosenNode.tabIndex = 0;
    this.readers.forEach(
      (reader, n) => n !== m && this.touching(reader).forEach((j) => reader.nodes[j]?.classList.add("with")),
    );
    this.panel.replaceChildren(this.expected(this.readers[m]), this.others());
  }

  /** What the model expected at the shown token. */
  expected(reader) {
    const token = this.current();
    const text = part(this.text, token.start, token.end);
    const { bits } = bitsOf(token);
    return el(
      "div",
      {},
      el(
        "p",
        {},
        el("strong", { style: `color: ${modelColor(reader.index)}` }, reader.name),
        " expected, before reading on:",
      ),
      bars(token.top, text, Math.max(0.3, token.top[0]?.[1] ?? 1)),
      el(
        "p",
        { style: "margin-top: .4rem" },
        "What came was ",
        el("span.code", { lang: LANGUAGE }, visible(text)),
        `, to which it gave ${percent(Math.exp(-token.nats))}: ${bits.toFixed(2)} bits`,
        token.isCut ? ", over several tokens that share a character." : ".",
      ),
    );
  }

  /** The loss of the same characters in every model. */
  others() {
    const rows = this.readers.map((reader) => {
      const tokens = this.touching(reader).map((j) => reader.tokens[j]);
      const bits = tokens.reduce((sum, token) => sum + token.nats * BITS, 0);
      const pieces = tokens.map((token) => visible(part(this.text, token.start, token.end)));
      return el(
        "tr",
        {},
        el("th", { scope: "row", style: `color: ${modelColor(reader.index)}` }, reader.name),
        el("td", { lang: LANGUAGE }, pieces.join("|")),
        el("td", {}, `${bits.toFixed(1)} bits`),
      );
    });
    return el(
      "div",
      {},
      el("p", {}, "The tokens that hold these characters, and their loss:"),
      el("table", {}, el("tbody", {}, rows)),
    );
  }
}

/** The passage, which is the same for all models. */
function drawPassage(node) {
  const text = Array.from(MODELS[0].inspection.passage.text);
  new Passage(node, passageReaders(text.length), text);
}
