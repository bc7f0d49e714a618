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
function warningList(models) {
  const items = models.flatMap((model) =>
    model.novelty.warnings.map((text) => el("li", {}, el("strong", {}, `${model.name}: `), text)),
  );
  return items.length
    ? el("ul.alerts", { "aria-label": "Warnings" }, items)
    : el("p.note", {}, "No warnings: no sample copies or repeats clearly more than the author's own unseen text does.");
}

/** The figures of every model's samples, each beside those of held-out text. */
function drawFigures(node) {
  const models = MODELS.filter((model) => model.novelty);
  if (!models.length) return node.append(absent("Novelty was not measured in this run."));
  const known = FIGURES.filter(([key]) =>
    models.some((model) => model.novelty.samples[key] !== null && model.novelty.samples[key] !== undefined),
  );
  const head = el(
    "tr",
    {},
    el("td"),
    models.map((model) => el("th", { scope: "col" }, model.name)),
  );
  const row = ([key, text, write]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", style: "white-space: normal; min-width: 11rem" }, text),
      models.map(({ novelty }) =>
        el("td", {}, write(novelty.samples[key]), el("span.small", {}, `author ${write(novelty.held_out[key])}`)),
      ),
    );
  node.append(
    warningList(models),
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
  const copies = figures?.copies || [];
  const about = figures
    ? `; ${percent(figures.words_known)} real words, longest copy ${count(figures.longest_copy_characters)} characters`
    : "";
  return el(
    "article.sample",
    {},
    el("p.key", {}, `temperature ${sample.temperature}, seed ${sample.seed}${about}`),
    el(
      "blockquote",
      {},
      el("div.quote", { lang: LANGUAGE }, el("b", {}, sample.prompt), markedText(sample.text, copies)),
    ),
  );
}

/** The chosen model's samples. */
function drawSamples(node) {
  onModel(({ name, samples, novelty }) => {
    const figures = (sample) =>
      novelty?.per_sample.find(
        (one) => one.prompt === sample.prompt && one.temperature === sample.temperature && one.seed === sample.seed,
      );
    const [first, ...rest] = samples.map((sample) => sampleArticle(sample, figures(sample)));
    const kept = rest.splice(0, 2);
    node.replaceChildren(...[first || absent(`${name} wrote no samples.`), ...kept]);
    if (!novelty) node.prepend(absent(`The novelty of what ${name} wrote was not measured, so no copies are marked.`));
    const hasCopies = novelty?.per_sample.some((one) => one.copies.length);
    if (novelty && !hasCopies)
      node.prepend(el("p.note", {}, `No sample of ${name} holds a stretch long enough to mark.`));
    if (rest.length) node.append(el("details", {}, el("summary", {}, `${rest.length} more samples`), rest));
  });
}

/** The chosen model's samples during training, moved through by a slider. */
function drawTimeline(node) {
  onModel(({ name, timeline, history }) => {
    if (!timeline.length) return node.replaceChildren(absent(`${name} kept no samples of its training.`));
    const slider = el("input", {
      type: "range",
      min: 0,
      max: timeline.length - 1,
      value: 0,
      "aria-label": `Moment in the training of ${name}`,
      input: () => show(+slider.value),
    });
    const [said, text] = [el("p.readout", { "aria-live": "polite" }), el("div.quote", { lang: LANGUAGE })];
    const show = (i) => {
      const entry = timeline[i];
      const read = history.characters[history.step.indexOf(entry.step)];
      said.replaceChildren(
        el("strong", {}, `Step ${count(entry.step)}`),
        read ? `, ${count(read)} characters read` : ", nothing read yet",
        `: ${fixed(entry.bits_per_char)} bits per character`,
      );
      slider.setAttribute("aria-valuetext", `step ${entry.step}, ${entry.bits_per_char} bits per character`);
      text.replaceChildren(el("b", {}, entry.prompt), entry.text);
    };
    node.replaceChildren(
      slider,
      said,
      text,
      el(
        "p.key",
        {},
        `Always the same beginning, temperature ${timeline[0].temperature} and seed ${timeline[0].seed}.`,
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

/** The speeds of every model, then of every graph it can be run as. */
function drawRates(node) {
  const rows = (value) =>
    MODELS.map((model, index) => [model.name, index, value(model.benchmark)]).filter(
      ([, , v]) => v !== undefined && v !== null,
    );
  const batches = [...new Set(MODELS.flatMap((model) => Object.keys(model.benchmark.tokens_per_second || {})))];
  const many = (batch) => +batch.replace(/\D/g, "");
  const name = (batch) =>
    many(batch) === 1 ? "Tokens per second, one text" : `Tokens per second, ${many(batch)} texts at once`;
  const length = ({ metrics }) => metrics[SPLIT]?.characters / metrics[SPLIT]?.tokens;
  const characters = MODELS.map((model, index) => [
    model.name,
    index,
    model.benchmark.tokens_per_second?.batch_1 * length(model),
  ]).filter(([, , v]) => Number.isFinite(v));
  node.append(...rateBars("Characters per second, one text", characters, count));
  batches.forEach((batch) =>
    node.append(
      ...rateBars(
        name(batch),
        rows((b) => b.tokens_per_second?.[batch]),
        count,
      ),
    ),
  );
  node.append(
    ...rateBars(
      "Waiting time before the first token",
      rows((b) => b.first_token_latency_ms),
      (v) => `${fixed(v, 2)} ms`,
    ),
  );
  const graphs = MODELS.flatMap((model) =>
    Object.entries(model.benchmark.graphs || {}).map(([graph, one]) => [model.name, graph, one]),
  );
  if (graphs.length) node.append(graphTable(graphs, batches, many));
  const machine = MODELS[0].benchmark.machine;
  if (machine)
    node.append(
      el(
        "p.key",
        {},
        `Measured with ONNX Runtime ${machine.onnxruntime} on ${machine.processor} `,
        `(cores: ${machine.cores}, threads used: ${machine.threads}), device ${machine.device}.`,
      ),
    );
}

/** Every form in which a model can be run, with its speed and size. */
function graphTable(graphs, batches, many) {
  const heads = [
    "model",
    "form",
    ...batches.map((batch) => `tokens/s ×${many(batch)}`),
    "first token ms",
    "file MB",
    "memory MB",
  ];
  const row = ([model, graph, one]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, model),
      el("td", {}, graph),
      batches.map((batch) => el("td", {}, count(one.tokens_per_second?.[batch]))),
      el("td", {}, fixed(one.first_token_latency_ms, 2)),
      el("td", {}, fixed(one.model_mb, 2)),
      el("td", {}, fixed(one.peak_memory_mb, 0)),
    );
  return el(
    "details",
    {},
    el("summary", {}, "Every form of every model (full numbers, small integers, the portable one)"),
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
