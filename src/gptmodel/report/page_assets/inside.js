// Inside one model: attention heads as heat maps and as shading over the tokens, and the guess after every layer.

/** The T x T shares of a head from base64 of bytes, 255 for 1. */
function decodeHead(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** What one head does over the excerpt, in words: how far back it looks and how much at the first token. */
function headInWords(head, size) {
  let [back, first, self] = [0, 0, 0];
  for (let q = 1; q < size; q++)
    for (let k = 0; k <= q; k++) {
      const share = head[q * size + k] / 255;
      back += share * (q - k);
      if (k === 0) first += share;
      if (k === q) self += share;
    }
  const rows = Math.max(1, size - 1);
  const shares = `${percent(first / rows)} to the first token and ${percent(self / rows)} to the token itself`;
  return `On average it looks ${(back / rows).toFixed(1)} tokens back, gives ${shares}.`;
}

/** The tokens of a strip; entering or focusing one calls `show(index)`; returns the spans. */
function tokenStrip(tokens, show) {
  const spans = tokens.map((token, i) =>
    el("span.tok", { tabindex: i ? -1 : 0, role: "button", "data-i": i, style: "--v: 0" }, visible(token)),
  );
  const strip = el("div.strip", { role: "group", "aria-label": "The tokens; arrow keys move", lang: LANGUAGE }, spans);
  const follow = (event) => event.target.dataset.i !== undefined && show(+event.target.dataset.i);
  for (const kind of ["pointerover", "focusin", "click"]) strip.addEventListener(kind, follow);
  const step = (by) => () => {
    const next = spans[clamp(spans.findIndex((span) => span.tabIndex === 0) + by, 0, spans.length - 1)];
    show(+next.dataset.i);
    next.focus();
  };
  onKeys(strip, { ArrowLeft: step(-1), ArrowRight: step(1), Home: step(-tokens.length), End: step(tokens.length) });
  return { strip, spans };
}

class Attention {
  /** The heads of one model, small, and one of them large; `data` is the "attention" of inspection.json. */
  constructor(node, data) {
    this.tokens = data.tokens;
    this.size = data.tokens.length;
    const heads = data.layers[0].length;
    this.heads = data.layers.flatMap((layer, l) =>
      layer.map((head, h) => ({ l, h, shares: decodeHead(head), canvas: el("canvas", { "aria-hidden": "true" }) })),
    );
    this.query = Math.min(this.size - 1, Math.floor(this.size * 0.6));
    this.buttons = this.heads.map((head) =>
      el(
        "button",
        { type: "button", "aria-pressed": "false", click: () => this.choose(head) },
        head.canvas,
        `layer ${head.l + 1}, head ${head.h + 1}`,
      ),
    );
    this.canvas = el("canvas");
    this.title = el("p", {});
    this.said = el("p.readout", { "aria-live": "polite" });
    const map = el(
      "div.map",
      { tabindex: 0, role: "application", "aria-label": "The chosen head; arrow keys move over token pairs" },
      this.canvas,
    );
    const { strip, spans } = tokenStrip(this.tokens, (query) => this.move(query, query));
    this.spans = spans;
    node.append(
      el(
        "p.key",
        {},
        "no attention",
        el("span.scale.cool"),
        "all of it (colours follow the square root, so that faint attention shows too)",
      ),
      el(
        `div.attention${heads > 4 ? ".many" : ""}`,
        { style: `--heads: ${heads}` },
        el("div.heads", {}, this.buttons),
        el("div.large", {}, this.title, map),
      ),
      el("p.key", {}, "Outlined: the token being read. Shaded: where the head looks. Point at a token, or use ← →."),
      strip,
      this.said,
    );
    this.move = readHeat(map, this.size, this.size, (q, k) => this.show(q, k));
    this.choose(this.heads.at(-1));
  }

  /** Paint every map in the present theme. */
  paint() {
    const of = (head) => (q, k) => head.shares[q * this.size + k] / 255;
    this.heads.forEach((head) => paintHeat(head.canvas, this.size, this.size, of(head)));
    paintHeat(this.canvas, this.size, this.size, of(this.head));
  }

  /** Make a head the large one. */
  choose(head) {
    this.head = head;
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(this.heads[i] === head)));
    this.title.replaceChildren(
      el("strong", {}, `Layer ${head.l + 1}, head ${head.h + 1}. `),
      headInWords(head.shares, this.size),
    );
    this.paint();
    this.move(this.query, this.query);
  }

  /** Shade the tokens by what the head sees from token `q`, and say how much goes to `k` (or where most goes). */
  show(q, k) {
    this.query = q;
    const shares = [...this.head.shares.slice(q * this.size, (q + 1) * this.size)].map((share) => share / 255);
    this.spans.forEach((span, i) => {
      span.style.setProperty("--v", Math.sqrt(shares[i]).toFixed(3));
      span.className = `tok${i === q ? " on" : ""}${i > q ? " later" : ""}`;
      span.tabIndex = i === q ? 0 : -1;
    });
    const most = shares
      .map((share, i) => [share, i])
      .sort((a, b) => b[0] - a[0])
      .slice(0, 3)
      .filter(([share]) => share > 0);
    const name = (i) => el("span.code", { lang: LANGUAGE }, visible(this.tokens[i]));
    const where = (i) => (i === q ? " itself" : ` (${q - i} back)`);
    const others = most.map(([share, i], n) => [n ? ", " : "", percent(share), " to ", name(i), where(i)]);
    const exact = k < q ? ["; ", percent(shares[k]), " to ", name(k), where(k)] : k > q ? "; it cannot look ahead" : "";
    this.said.replaceChildren("Reading ", name(q), ", this head gives ", ...others.flat(), ...[exact].flat(), ".");
  }
}

/** The attention of the chosen model. */
function drawAttention(node) {
  let shown = null;
  onModel((model) => {
    node.replaceChildren();
    const data = model.inspection.attention;
    shown = data ? new Attention(node, data) : null;
    if (data) return;
    node.append(
      absent(`${model.name} has no attention: it sees nothing but the last token, so there is nowhere else to look.`),
    );
  });
  watchers.theme.push(() => shown?.paint());
}

/** One cell of the lens: the best guess, as sure as it is strong; right ones stand out. */
function lensCell(top, target, show) {
  const [guess, share] = top[0];
  return el(
    `td${guess === target ? ".right" : ""}`,
    {
      style: `--v: ${Math.sqrt(share).toFixed(3)}`,
      tabindex: -1,
      lang: LANGUAGE,
      focus: show,
      pointerover: show,
      click: show,
    },
    visible(guess),
  );
}

/** Let the arrow keys move between the cells of a table body. */
function walkCells(body) {
  const cellAt = (r, c) => body.rows[r]?.querySelectorAll("td")[c];
  const move = (dr, dc) => () => {
    const row = document.activeElement.closest("tr");
    const r = [...body.rows].indexOf(row);
    const c = [...row.querySelectorAll("td")].indexOf(document.activeElement);
    cellAt(r + dr, c + dc)?.focus();
  };
  onKeys(body, { ArrowLeft: move(0, -1), ArrowRight: move(0, 1), ArrowUp: move(-1, 0), ArrowDown: move(1, 0) });
  cellAt(body.rows.length - 1, 0).tabIndex = 0;
}

/** The table of guesses: layers down, tokens across. */
function lensTable(data, show) {
  const most = Math.max(...data.nats);
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "after reading →"),
    data.tokens.map((token) => el("th", { scope: "col", lang: LANGUAGE }, visible(token))),
  );
  const rows = data.layers.map((layer, l) =>
    el(
      "tr",
      {},
      el(
        "th",
        { scope: "row" },
        el("div", {}, layer),
        el("span.nats", { style: `width: ${(data.nats[l] / most) * 4.2}rem` }),
        `${(data.nats[l] * BITS).toFixed(1)} bits`,
      ),
      data.top[l].map((top, t) => lensCell(top, data.targets[t], (event) => show(l, t, event.target))),
    ),
  );
  const came = el(
    "tr",
    {},
    el("th", { scope: "row" }, "what came"),
    data.targets.map((token) => el("th", { scope: "col", lang: LANGUAGE }, visible(token))),
  );
  const body = el("tbody", {}, rows);
  walkCells(body);
  return el("table.lens", {}, el("thead", {}, head), body, el("tfoot", {}, came));
}

/** The lens of the chosen model. */
function drawLens(node) {
  onModel((model) => {
    const data = model.inspection.lens;
    if (!data)
      return node.replaceChildren(
        absent(`${model.name} has no layers to look between: its guess is one look-up in a table.`),
      );
    const said = el("div.readout", { style: "min-height: 5.6rem; max-width: 30rem", "aria-live": "polite" });
    const show = (l, t, cell) => {
      node.querySelectorAll("td.on").forEach((other) => other.classList.remove("on"));
      cell?.classList.add("on");
      said.replaceChildren(
        el(
          "p",
          { style: "margin: 0 0 .2rem" },
          el("strong", {}, data.layers[l]),
          ", after ",
          el("span.code", { lang: LANGUAGE }, visible(data.tokens.slice(Math.max(0, t - 8), t + 1).join(""))),
          ":",
        ),
        bars(data.top[l][t], data.targets[t]),
      );
    };
    node.replaceChildren(
      el("div.scroll", {}, lensTable(data, show)),
      said,
      el(
        "p.key",
        {},
        "The bits on the left are averages per token over a longer stretch of the unseen text. " +
          "Early layers were never trained to answer, so their first guesses are only hints.",
      ),
    );
    const last = data.layers.length - 1;
    show(last, 0, node.querySelector("tbody").rows[last].querySelector("td"));
  });
}
