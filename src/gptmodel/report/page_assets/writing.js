// What the models write: how French and how new it is, the samples with their copies, the way from noise, the speed.

const FIGURES = [
  // key, what it says, how it is written
  ["words_known", "real words: in the training text or the dictionary", percent],
  ["words_in_training", "words seen in the training text", percent],
  ["words_in_lexicon", "words in the dictionary", percent],
  ["distinct_words", "different words, of all words", percent],
  ["repetition", "four-word sequences said before in the same text", percent],
  ["copied_8_word_sequences", "eight-word sequences copied from the training text", percent],
  ["longest_copy_characters", "longest copied stretch, in characters", count],
];

/** The warnings of every model, where they cannot be missed. */
function warningList() {
  const items = MODELS.flatMap((model) =>
    model.novelty.warnings.map((text) => el("li", {}, el("strong", {}, `${model.name}: `), text)),
  );
  return items.length
    ? el("ul.alerts", { "aria-label": "Warnings" }, items)
    : el("p.note", {}, "No warnings: no sample copies or repeats clearly more than the author's own unseen text does.");
}

/** The figures of every model's samples, each beside those of held-out text. */
function drawFigures(node) {
  const known = FIGURES.filter(([key]) => MODELS.some(({ novelty }) => novelty.samples[key] !== null));
  const head = el(
    "tr",
    {},
    el("td"),
    MODELS.map((model) => el("th", { scope: "col" }, model.name)),
  );
  const row = ([key, text, write]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", style: "white-space: normal; min-width: 11rem" }, text),
      MODELS.map(({ novelty }) =>
        el("td", {}, write(novelty.samples[key]), el("span.small", {}, `author ${write(novelty.held_out[key])}`)),
      ),
    );
  node.append(
    warningList(),
    el(
      "div.scroll",
      { tabindex: 0, role: "region", "aria-label": "Figures of what the models write" },
      el("table", {}, el("thead", {}, head), el("tbody", {}, known.map(row))),
    ),
    el(
      "p.key",
      {},
      "The author's figures are of held-out text, cut into pieces as long as the model's samples; " +
        "the ideal is to be near them in every row.",
    ),
  );
}

/** A text with its copied stretches marked. */
function markedText(text, copies) {
  const characters = Array.from(text);
  const parts = [];
  let at = 0;
  for (const { start, end } of [...copies].sort((a, b) => a.start - b.start)) {
    if (start < at) continue;
    parts.push(
      part(characters, at, start),
      el(
        "mark",
        { title: `${end - start} characters, word for word from the training text` },
        part(characters, start, end),
      ),
    );
    at = end;
  }
  return [...parts, part(characters, at)];
}

/** One sample: how it was made, what it says, what is copied. */
function sampleArticle(sample, figures) {
  const about =
    `temperature ${sample.temperature}, seed ${sample.seed}; ${percent(figures.words_known)} real words, ` +
    `longest copy ${count(figures.longest_copy_characters)} characters`;
  return el(
    "article.sample",
    {},
    el("p.key", {}, about),
    el(
      "blockquote",
      {},
      el("div.quote", { lang: LANGUAGE }, el("b", {}, sample.prompt), markedText(sample.text, figures.copies)),
    ),
  );
}

/** The chosen model's samples. */
function drawSamples(node) {
  onModel(({ name, samples, novelty }) => {
    const articles = samples.samples.map((sample, i) => sampleArticle(sample, novelty.per_sample[i]));
    const rest = articles.splice(3);
    node.replaceChildren(...articles);
    if (!novelty.per_sample.some((figures) => figures.copies.length))
      node.prepend(el("p.note", {}, `No sample of ${name} holds a stretch long enough to mark.`));
    if (rest.length) node.append(el("details", {}, el("summary", {}, `${rest.length} more samples`), rest));
  });
}

/** The chosen model's samples during training, moved through by a slider. */
function drawTimeline(node) {
  onModel(({ name, timeline: { entries }, history }) => {
    if (!entries.length) return node.replaceChildren(absent(`${name} kept no samples of its training.`));
    const slider = el("input", {
      type: "range",
      min: 0,
      max: entries.length - 1,
      value: 0,
      "aria-label": `Moment in the training of ${name}`,
      input: () => show(+slider.value),
    });
    const [said, text] = [el("p.readout", { "aria-live": "polite" }), el("div.quote", { lang: LANGUAGE })];
    const show = (i) => {
      const entry = entries[i];
      const read = history.find((point) => point.step === entry.step)?.characters;
      said.replaceChildren(
        el("strong", {}, `Step ${count(entry.step)}`),
        read ? `, ${count(read)} characters read` : ", nothing read yet",
        `: ${fixed(entry.bits_per_char)} bits per character`,
      );
      slider.setAttribute("aria-valuetext", `step ${entry.step}, ${fixed(entry.bits_per_char)} bits per character`);
      text.replaceChildren(el("b", {}, entry.sample.prompt), entry.sample.text);
    };
    node.replaceChildren(
      slider,
      said,
      text,
      el(
        "p.key",
        {},
        `Always the same beginning, temperature ${entries[0].sample.temperature} and seed ${entries[0].sample.seed}.`,
      ),
    );
    show(0);
  });
}

/** One group of bars: a title and a bar for each model. */
function rateBars(title, rows, write) {
  const most = Math.max(...rows.map(([, , value]) => value));
  const row = ([name, index, value]) => [
    el("span", {}, name),
    el("span.bar", {}, el("i", { style: `width: ${(value / most) * 100}%; background: ${modelColor(index)}` })),
    el("span", {}, write(value)),
  ];
  return rows.length ? [el("h3", {}, title), el("div.bars.rates", {}, rows.map(row))] : [];
}

/** The speeds of every model, then of every graph that it can be run as. */
function drawRates(node) {
  const rows = (value) => MODELS.map((model, index) => [model.name, index, value(model.benchmark)]);
  const batches = Object.keys(MODELS[0].benchmark.tokens_per_second);
  const many = (batch) => +batch.replace(/\D/g, "");
  const name = (batch) =>
    many(batch) === 1 ? "Tokens per second, one text" : `Tokens per second, ${many(batch)} texts at once`;
  const length = ({ metrics }) => metrics[SPLIT].characters / metrics[SPLIT].tokens;
  const characters = MODELS.map((model, index) => [
    model.name,
    index,
    model.benchmark.tokens_per_second.batch_1 * length(model),
  ]).filter(([, , rate]) => Number.isFinite(rate));
  node.append(...rateBars("Characters per second, one text", characters, count));
  batches.forEach((batch) =>
    node.append(
      ...rateBars(
        name(batch),
        rows((benchmark) => benchmark.tokens_per_second[batch]),
        count,
      ),
    ),
  );
  node.append(
    ...rateBars(
      "Waiting time before the first token",
      rows((benchmark) => benchmark.first_token_latency_ms),
      (latency) => `${fixed(latency, 2)} ms`,
    ),
  );
  const graphs = MODELS.flatMap((model) =>
    Object.entries(model.benchmark.graphs).map(([graph, speed]) => [model.name, graph, speed]),
  );
  const { machine } = MODELS[0].benchmark;
  node.append(
    graphTable(graphs, batches, many),
    el(
      "p.key",
      {},
      `Measured with ONNX Runtime ${machine.onnxruntime} on ${machine.processor} `,
      `(cores: ${machine.cores}, threads used: ${machine.threads}), device ${machine.device}.`,
    ),
  );
}

/** Every graph of every model, with its speed and size. */
function graphTable(graphs, batches, many) {
  const heads = [
    "model",
    "graph",
    ...batches.map((batch) => `tokens/s ×${many(batch)}`),
    "first token ms",
    "file MB",
    "memory MB",
  ];
  const row = ([model, graph, speed]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, model),
      el("td", {}, graph),
      batches.map((batch) => el("td", {}, count(speed.tokens_per_second[batch]))),
      el("td", {}, fixed(speed.first_token_latency_ms, 2)),
      el("td", {}, fixed(speed.model_mb, 2)),
      el("td", {}, fixed(speed.peak_memory_mb, 0)),
    );
  return el(
    "details",
    {},
    el("summary", {}, "Every graph (ONNX file) of every model: full numbers, small integers, the portable one"),
    el(
      "div.scroll",
      {},
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            heads.map((head) => el("th", { scope: "col" }, head)),
          ),
        ),
        el("tbody", {}, graphs.map(row)),
      ),
    ),
  );
}
