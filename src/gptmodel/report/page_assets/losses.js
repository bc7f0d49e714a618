// Where the bits go: by place in the context, by kind of character, in the worst and the best passages.

/** Every model's loss by the number of tokens it had read. */
function drawPositions(node) {
  const series = MODELS.map(({ name, breakdown }, index) => ({
    name,
    index,
    points: breakdown.by_position.map((bin) => [bin.tokens_seen, bin.bits_per_char]),
  })).filter((line) => line.points.length);
  if (!series.length) return node.append(absent("The text is too short to tell the places in the context apart."));
  lineChart(node, {
    series,
    xLabel: "tokens read before the guess",
    yLabel: "bits per character",
    label: "Bits per character by the number of tokens read before",
    say: (x) =>
      `after about ${count(x)} token${x < 1.5 ? "" : "s"}; a token is a character, a word or a piece of one, by model`,
  });
}

/** The kinds of characters with every model's bits, the kind with most of the best model's loss first. */
function classRows() {
  const of = (model, name) => model.breakdown.by_class.find((row) => row.name === name);
  return MODELS[0].breakdown.by_class
    .filter((row) => row.characters > 0)
    .sort((a, b) => b.share_of_bits - a.share_of_bits)
    .map((row) => ({ ...row, values: MODELS.map((model) => of(model, row.name)?.bits_per_char) }));
}

/** One kind of character: its name and shares, the line of its marks. */
function classRow(row, y, x) {
  const known = row.values.filter(Number.isFinite);
  return [
    svg("text.name", { x: 0, y: y - 2 }, row.name),
    svg("text", { x: 0, y: y + 13 }, `${percent(row.share)} of text, ${percent(row.share_of_bits)} of loss`),
    svg("path.axis", { d: `M${x(Math.min(...known))} ${y}H${x(Math.max(...known))}`, "stroke-width": 3 }),
    row.values.map((value, m) => (Number.isFinite(value) ? marker(m, x(value), y, 5) : null)),
  ];
}

/** Every model's bits by kind of character. */
function drawClasses(node) {
  const rows = classRows();
  const key = legend(MODELS.map((model) => model.name));
  const said = el(
    "p.readout.key",
    { "aria-live": "polite" },
    "Point at a row, or focus the picture and use ↑ ↓, to read the values.",
  );
  const place = el("div");
  node.append(
    key.node,
    place,
    said,
    el(
      "p.key",
      {},
      "A model of words or pieces is scored on a whole token at once, and the loss is spread over the token's " +
        "characters, so for such a model the kinds inside a word are blurred.",
    ),
  );
  const inWords = rows.map((row) => `${row.name} ${fixed(row.bits_per_char, 2)}`).join(", ");
  const most = Math.max(...rows.flatMap((row) => row.values.filter(Number.isFinite)));
  onWidth(place, (width) => {
    const x = scale([0, most], [width < 500 ? 164 : 190, width - 12]);
    const [top, step] = [52, 44];
    const height = top + step * rows.length - 8;
    const grid = ticks(0, most, width < 500 ? 4 : 8).map((value) => [
      svg("path.axis", { d: `M${x(value)} 24V${height}` }),
      svg("text", { x: x(value), y: 16, "text-anchor": "middle" }, String(value)),
    ]);
    const band = svg("rect", { x: 0, width, height: step, y: -99, fill: "var(--raised)" });
    let at = 0;
    const show = (index) => {
      at = clamp(index, 0, rows.length - 1);
      band.setAttribute("y", top + at * step - step / 2);
      key.write(rows[at].values.map((value) => fixed(value, 2)));
      said.textContent = `${rows[at].name}: ${count(rows[at].characters)} characters; bits for each in the legend`;
    };
    const drawing = svg(
      "svg.chart",
      {
        height,
        role: "img",
        tabindex: 0,
        "aria-label": `Bits per character of ${MODELS[0].name} by kind: ${inWords}`,
      },
      band,
      grid,
      rows.map((row, i) => classRow(row, top + i * step, x)),
    );
    drawing.addEventListener("pointermove", (event) =>
      show(Math.round((event.clientY - drawing.getBoundingClientRect().top - top) / step)),
    );
    onKeys(drawing, { ArrowUp: () => show(at - 1), ArrowDown: () => show(at + 1) });
    place.replaceChildren(drawing);
  });
}

/** The chosen model's worst and best passages. */
function drawExtremes(node) {
  onModel(({ breakdown }) => {
    const quote = (passage) =>
      el(
        "blockquote",
        {},
        el("div.quote", { lang: LANGUAGE }, passage.text.trim()),
        el("div.key", {}, `${fixed(passage.bits_per_char, 2)} bits per character`),
      );
    const side = (title, passages) => el("div", {}, el("h4", {}, title), passages.map(quote));
    node.replaceChildren(
      el(
        "div.extremes",
        {},
        side("It found these hardest", breakdown.worst),
        side("It found these easiest", breakdown.best),
      ),
    );
  });
}
