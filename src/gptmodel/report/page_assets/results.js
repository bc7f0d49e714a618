// What was trained, models and baselines in order, the curves.

/** Facts about the text, and how it was divided. */
function drawCorpus(node) {
  const { corpus } = DATA;
  const facts = [
    [
      "Text",
      [corpus.title, corpus.author && `by ${corpus.author}`, corpus.year && `(${corpus.year})`]
        .filter(Boolean)
        .join(" "),
    ],
    ["Length", `${count(corpus.characters)} characters${corpus.language ? `, language: ${corpus.language}` : ""}`],
    ["Licence", corpus.licence],
    ["Source", corpus.source],
    ["Models", MODELS.map((model) => model.name).join(", ")],
  ];
  const rows = facts.filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
  const used = { train: "read in training", validation: "chooses when to stop", test: "never seen: the score" };
  const colors = { train: "var(--good)", validation: "var(--ramp-2)", test: "var(--ramp-3)" };
  const splits = Object.entries(corpus.splits).filter(([, split]) => split.characters > 0);
  node.append(
    el("dl.facts", {}, rows),
    el(
      "div.split",
      { "aria-hidden": "true" },
      splits.map(([name, split]) => el("span", { style: `flex: ${split.characters} 1 0; color: ${colors[name]}` })),
    ),
    el(
      "ul.legend",
      { "aria-label": "How the text was divided" },
      splits.map(([name, split]) =>
        el(
          "li",
          {},
          el("span.swatch", { style: `color: ${colors[name]}` }),
          `${name}: ${count(split.characters)} characters (${used[name]})`,
        ),
      ),
    ),
  );
}

/** The models and the baselines with their scores, the best first. */
function rankingRows() {
  const models = MODELS.map((model, index) => ({ name: model.name, index, ...model.metrics[SPLIT] }));
  return [...models, ...DATA.baselines.splits[SPLIT]].sort((a, b) => a.bits_per_char - b.bits_per_char);
}

/** One row of the ranking: its name, its mark with the interval, its value. */
function rankingRow(row, y, x, width, isPhone) {
  const at = x(row.bits_per_char);
  const isModel = row.index !== undefined;
  const color = isModel ? modelColor(row.index) : "var(--muted)";
  const interval = isModel
    ? svg("path", {
        d: `M${x(row.bits_per_char_low)} ${y}H${x(row.bits_per_char_high)}`,
        stroke: color,
        "stroke-width": 7,
        "stroke-opacity": 0.4,
      })
    : null;
  const mark = isModel
    ? svg("circle", { cx: at, cy: y, r: 4.5, fill: color })
    : svg("path", { d: `M${at} ${y - 5}l5 5l-5 5l-5 -5Z`, fill: "var(--paper)", stroke: color, "stroke-width": 1.5 });
  const name = svg(
    "text.name",
    { x: 0, y: y + 4, ...(isModel && { "font-weight": 600, style: `fill: ${color}` }) },
    row.name,
  );
  const range = isModel && !isPhone ? `  (${fixed(row.bits_per_char_low, 2)}–${fixed(row.bits_per_char_high, 2)})` : "";
  const value = svg("text.value", { x: width, y: y + 4, "text-anchor": "end" }, fixed(row.bits_per_char) + range);
  return [name, svg("path.axis", { d: `M${x.start} ${y}H${x.end}`, "stroke-dasharray": "1 4" }), interval, mark, value];
}

/** The picture of the ranking for one range of bits per character. */
function rankingPicture(rows, width) {
  const isPhone = width < 560;
  const [low, high] = [
    Math.min(...rows.map((r) => r.bits_per_char_low ?? r.bits_per_char)),
    Math.max(...rows.map((r) => r.bits_per_char_high ?? r.bits_per_char)),
  ];
  const [start, end] = [isPhone ? 104 : 130, width - (isPhone ? 52 : 150)];
  const x = Object.assign(scale([low, high], [start + 8, end - 8]), { start, end });
  const height = 26 * rows.length + 46;
  const grid = ticks(low, high, isPhone ? 4 : 8).map((value) => [
    svg("path.axis", { d: `M${x(value)} 24V${height - 8}` }),
    svg("text", { x: x(value), y: 16, "text-anchor": "middle" }, String(value)),
  ]);
  const label = rows.map((row) => `${row.name} ${fixed(row.bits_per_char)}`).join(", ");
  return svg(
    "svg.chart",
    { height, role: "img", "aria-label": `Bits per character, best first: ${label}` },
    grid,
    rows.map((row, i) => rankingRow(row, 44 + 26 * i, x, width, isPhone)),
  );
}

/** The ranking with its two ranges: everything, or what lies close to the best. */
function drawRanking(node) {
  const all = rankingRows();
  const close = all.filter((row) => row.bits_per_char < all[0].bits_per_char * 1.3);
  const place = el("div");
  let rows = all;
  const draw = () => place.clientWidth && place.replaceChildren(rankingPicture(rows, place.clientWidth));
  const zoom = (value) => {
    rows = value === "close" ? close : all;
    draw();
  };
  if (close.length > 1 && close.length < all.length)
    node.append(
      choice(
        "Show",
        "zoom",
        [
          ["all", "all of them"],
          ["close", "only the best, enlarged"],
        ],
        "all",
        zoom,
      ),
    );
  node.append(
    place,
    el(
      "p.key",
      {},
      `Bits per character on the ${SPLIT} text; lower is better. `,
      SPLIT === "test"
        ? ""
        : "There is no test text; training was stopped where these scores are best, so they flatter.",
    ),
  );
  onWidth(place, draw);
}

/** Both losses of every model over the characters read. */
function drawCurves(node) {
  const points = (history, key) =>
    history.map((point) => [point.characters, point[key]]).filter(([x, y]) => x > 0 && y !== null);
  const series = MODELS.map(({ name, history }, index) => ({
    name,
    index,
    points: points(history, "validation_bits_per_char"),
    faint: points(history, "train_bits_per_char"),
  })).filter((line) => line.points.length);
  if (!series.length) return node.append(absent("No model of this run kept a history."));
  const length = DATA.corpus.splits.train.characters;
  lineChart(node, {
    series,
    xLabel: "characters read in training",
    yLabel: "bits per character",
    label: "Score on text kept aside and on the text being learned, over the characters read",
    say: (x) =>
      `after about ${count(x)} characters (the training text ${(x / length).toFixed(1)} times); ` +
      "in the legend: kept aside / being learned",
  });
  node.append(
    el("p.key", {}, "The axis is logarithmic, so the untrained models, which had read nothing, have no place on it."),
  );
}
