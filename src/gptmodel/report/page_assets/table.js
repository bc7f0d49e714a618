// The table of every figure, and which differences between the models are real.

/** The columns of the table: heading, value, how it is written, group. */
function tableColumns() {
  const score =
    (key, split = SPLIT) =>
    (model) =>
      model.metrics[split]?.[key];
  const interval = ({ metrics }) =>
    el(
      "span.small",
      {},
      `${fixed(metrics[SPLIT].bits_per_char_low, 2)}–${fixed(metrics[SPLIT].bits_per_char_high, 2)}`,
    );
  const main = "the score";
  const rest = "size and speed";
  const apart = "other rules";
  const all = [
    {
      head: "test\nbits/char.",
      value: score("bits_per_char", "test"),
      group: main,
      extra: SPLIT === "test" && interval,
    },
    {
      head: "validation\nbits/char.",
      value: score("bits_per_char", "validation"),
      group: main,
      extra: SPLIT === "validation" && interval,
    },
    { head: `${SPLIT}\nbits/byte`, value: score("bits_per_byte"), group: main },
    { head: "numbers\nlearned", value: (model) => model.metrics.parameters, write: count, group: rest },
    { head: "training\nmin:s", value: (model) => model.speed.seconds, write: minutes, group: rest },
    { head: "training\ntokens/s", value: (model) => model.speed.tokens_per_second, write: count, group: rest },
    {
      head: "writing\ntokens/s",
      value: (model) => model.benchmark.tokens_per_second.batch_1,
      write: count,
      group: rest,
    },
    { head: "sliding\nbits/char.", value: score("sliding_bits_per_char"), group: apart, apart: true },
    { head: "dynamic\nbits/char.", value: score("dynamic_bits_per_char"), group: apart, apart: true },
  ];
  return all.filter((column) => MODELS.some((model) => column.value(model) !== undefined));
}

/** One row of the table; the best value of a column of bits is bold. */
function tableRow(model, index, columns) {
  const cell = (column) => {
    const value = column.value(model);
    const isBest = !column.write && value === Math.min(...MODELS.map((other) => column.value(other) ?? Infinity));
    return el(
      `td${column.apart ? ".apart" : ""}${isBest ? ".best" : ""}`,
      {},
      value === undefined ? "–" : (column.write || fixed)(value),
      column.extra ? column.extra(model) : null,
    );
  };
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("span.swatch", { style: `color: ${modelColor(index)}` }), model.name),
    columns.map(cell),
  );
}

/** The table of every figure, sorted by the heading that is pressed. */
function drawTable(node) {
  const columns = tableColumns();
  const rows = new Map(MODELS.map((model, index) => [model, tableRow(model, index, columns)]));
  const body = el("tbody", {}, [...rows.values()]);
  const heads = [{ head: "model", value: (model) => model.name }, ...columns].map((column) => ({
    ...column,
    cell: null,
  }));
  const sort = (head) => {
    const isUp = head.cell.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.cell.removeAttribute("aria-sort"));
    head.cell.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    const worth = (model) => head.value(model) ?? Infinity;
    const order = [...MODELS].sort(
      (a, b) => (worth(a) < worth(b) ? -1 : worth(a) > worth(b) ? 1 : 0) * (isUp ? 1 : -1),
    );
    body.append(...order.map((model) => rows.get(model)));
  };
  for (const head of heads)
    head.cell = el(
      `th${head.apart ? ".apart" : ""}`,
      { scope: "col" },
      el("button", { type: "button", click: () => sort(head) }, head.head),
    );
  heads[1].cell.setAttribute("aria-sort", "ascending"); // the order in which the models come
  const groups = [...new Set(columns.map((column) => column.group))].map((group) =>
    el("th.group", { scope: "colgroup", colspan: columns.filter((column) => column.group === group).length }, group),
  );
  node.append(
    el(
      "div.scroll",
      { tabindex: 0, role: "region", "aria-label": "Table of every figure" },
      el(
        "table.sort",
        {},
        el(
          "thead",
          {},
          el("tr", {}, el("td"), groups),
          el(
            "tr",
            {},
            heads.map((head) => head.cell),
          ),
        ),
        body,
      ),
    ),
  );
}

/** The comparison of two names seen from the first, or nothing. */
function pairOf(a, b) {
  const forward = DATA.pairs.find((pair) => pair.a === a && pair.b === b);
  if (forward) return forward;
  const back = DATA.pairs.find((pair) => pair.a === b && pair.b === a);
  return back && { ...back, bits_per_char: -back.bits_per_char, low: -back.high, high: -back.low };
}

/** One cell of the matrix: the difference, its interval and, in words, what it means. */
function pairCell(a, b) {
  const pair = a === b ? null : pairOf(a, b);
  if (!pair) return el("td", { "aria-hidden": a === b }, a === b ? "" : "–");
  const verdict = !pair.is_real ? "open" : pair.bits_per_char < 0 ? "better" : "worse";
  const words = {
    better: `${a} is really better than ${b}`,
    worse: `${a} is really worse than ${b}`,
    open: `too close to tell ${a} from ${b}`,
  };
  return el(
    `td.${verdict}`,
    { title: words[verdict] },
    signed(pair.bits_per_char),
    el("b", {}, verdict === "open" ? " ?" : ` ${verdict}`),
    el("span.small", {}, `${signed(pair.low, 2)} to ${signed(pair.high, 2)}`),
  );
}

/** Every model (and the best baseline) against every other, the best first. */
function drawPairs(node) {
  const compared = new Set(DATA.pairs.flatMap((pair) => [pair.a, pair.b]));
  const names = rankingRows()
    .map((row) => row.name)
    .filter((name) => compared.has(name));
  const head = el(
    "tr",
    {},
    el("td", {}, "row minus column"),
    names.map((name) => el("th", { scope: "col" }, name)),
  );
  const rows = names.map((a) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, a),
      names.map((b) => pairCell(a, b)),
    ),
  );
  node.append(
    el(
      "div.scroll",
      { tabindex: 0, role: "region", "aria-label": "Differences between the models" },
      el("table.matrix", {}, el("thead", {}, head), el("tbody", {}, rows)),
    ),
  );
}
