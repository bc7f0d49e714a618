// Tokens and positions as maps in two dimensions, and the counted table of pairs beside the learned one.

const CLASSES = ["letters", "capitals", "accents", "spaces", "line breaks", "punctuation", "digits", "other"];
const CLOUD = matchMedia("(max-width: 46rem)").matches
  ? { width: 370, height: 430, margin: 20 }
  : { width: 760, height: 560, margin: 34 };

/** Scales that put all the points into the picture. */
function cloudScales(points, [ix, iy]) {
  const of = (i, from, to) =>
    scale([Math.min(...points.map((p) => p[i])), Math.max(...points.map((p) => p[i]))], [from, to]);
  return [of(ix, CLOUD.margin, CLOUD.width - CLOUD.margin), of(iy, CLOUD.height - CLOUD.margin, CLOUD.margin)];
}

/** Which labels can be written without covering one that is written already, the commonest tokens first. */
function roomForLabels(places) {
  const taken = [];
  return places.map(({ x, y, text }) => {
    const half = 5 + text.length * 4.6;
    const isFree = taken.every((other) => Math.abs(other.x - x) > other.half + half || Math.abs(other.y - y) > 15);
    if (isFree) taken.push({ x, y, half });
    return isFree;
  });
}

/** Let a cloud be read: the point nearest to the pointer, or the next one by arrow key, goes to `show(index)`. */
function readCloud(picture, places, show) {
  const halo = svg("circle.halo", { r: 9 });
  const tag = svg("text.tag");
  picture.append(halo, tag);
  let at = 0;
  const move = (index) => {
    at = (index + places.length) % places.length;
    const { x, y, text } = places[at];
    halo.setAttribute("cx", x);
    halo.setAttribute("cy", y);
    tag.setAttribute("x", clamp(x, 40, CLOUD.width - 40));
    tag.setAttribute("y", y > 50 ? y - 24 : y + 26);
    tag.textContent = text;
    show(at);
  };
  const point = (event) => {
    const box = picture.getBoundingClientRect();
    const [px, py] = [
      ((event.clientX - box.left) / box.width) * CLOUD.width,
      ((event.clientY - box.top) / box.height) * CLOUD.height,
    ];
    const far = ({ x, y }) => (x - px) ** 2 + (y - py) ** 2;
    move(places.reduce((best, place, i) => (far(place) < far(places[best]) ? i : best), 0));
  };
  picture.addEventListener("pointermove", point);
  picture.addEventListener("pointerdown", point);
  onKeys(picture, {
    ArrowRight: () => move(at + 1),
    ArrowLeft: () => move(at - 1),
    ArrowDown: () => move(at + 1),
    ArrowUp: () => move(at - 1),
  });
  return move;
}

/** How much of the differences two directions hold, and what follows. */
function explainedInWords(explained) {
  const share = explained[0] + explained[1];
  const trust =
    share < 0.15
      ? "so this is a faint shadow of the real map, and only clear groups mean something"
      : share < 0.7
        ? "so neighbours here are only roughly neighbours"
        : "so the picture is quite faithful";
  return `These two directions hold ${percent(share)} of the differences between them, ${trust}.`;
}

/** The cloud of tokens, coloured by class; the nearest tokens of the one pointed at are named. */
function tokenCloud(node, { points, explained }) {
  const [x, y] = cloudScales(points, [1, 2]);
  const places = points.map((point) => ({
    x: x(point[1]),
    y: y(point[2]),
    text: visible(point[0]),
    color: modelColor(Math.max(0, CLASSES.indexOf(point[3]))),
  }));
  const hasRoom = roomForLabels(places);
  const marks = places.map((place, i) =>
    hasRoom[i]
      ? svg("text", { x: place.x, y: place.y, style: `fill: ${place.color}` }, place.text)
      : svg("circle", { cx: place.x, cy: place.y, r: 2.6, style: `fill: ${place.color}`, "fill-opacity": 0.65 }),
  );
  const picture = svg(
    "svg.cloud",
    {
      viewBox: `0 0 ${CLOUD.width} ${CLOUD.height}`,
      role: "application",
      tabindex: 0,
      lang: LANGUAGE,
      "aria-label": "Map of the tokens; arrow keys go from token to token, the commonest first",
    },
    marks,
  );
  const said = el("p.readout", { "aria-live": "polite" });
  const move = readCloud(picture, places, (i) => {
    const far = (j) => (points[j][1] - points[i][1]) ** 2 + (points[j][2] - points[i][2]) ** 2;
    const near = points
      .map((_, j) => j)
      .filter((j) => j !== i)
      .sort((a, b) => far(a) - far(b))
      .slice(0, 6);
    said.replaceChildren(
      el("span.code", { lang: LANGUAGE }, places[i].text),
      ` (${points[i][3]}) lies closest, in this picture, to `,
      ...near.flatMap((j, n) => [n ? " " : "", el("span.code", { lang: LANGUAGE }, places[j].text)]),
    );
  });
  const classes = CLASSES.filter((name) => points.some((point) => point[3] === name));
  const keys = classes.map((name) =>
    el("li", {}, el("span.swatch", { style: `color: ${modelColor(CLASSES.indexOf(name))}` }), name),
  );
  node.append(
    el("p.key", {}, `The ${points.length} commonest tokens. ${explainedInWords(explained)}`),
    el("ul.legend", { "aria-label": "Kind of the first character" }, keys),
    picture,
    said,
  );
  move(0);
}

/** The path of learned positions, from the first (pale) to the last (strong). */
function positionPath(node, { points, explained }) {
  const [x, y] = cloudScales(points, [0, 1]);
  const places = points.map((point, i) => ({ x: x(point[0]), y: y(point[1]), text: `${i + 1}` }));
  const line = svg("path", {
    d: `M${places.map((p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("L")}`,
    fill: "none",
    stroke: "var(--line)",
    "stroke-width": 2,
  });
  const share = (i) => 25 + (75 * i) / Math.max(1, places.length - 1);
  const dots = places.map((p, i) =>
    svg("circle", {
      cx: p.x,
      cy: p.y,
      r: 5,
      style: `fill: color-mix(in oklab, var(--accent) ${share(i).toFixed(0)}%, var(--raised))`,
    }),
  );
  const picture = svg(
    "svg.cloud",
    {
      viewBox: `0 0 ${CLOUD.width} ${CLOUD.height}`,
      role: "application",
      tabindex: 0,
      "aria-label": "Map of the positions; arrow keys go from one to the next",
    },
    line,
    dots,
  );
  const said = el("p.readout", { "aria-live": "polite" });
  node.append(
    el("h3", {}, "The map of positions"),
    el(
      "p.how",
      {},
      "This model also learned a list of numbers for every place in its context; here each dot is a place, joined to " +
        "the next, the later the stronger. A smooth path means that it found out, from text alone, that places have " +
        "an order.",
    ),
    picture,
    said,
    el("p.key", {}, explainedInWords(explained)),
  );
  readCloud(picture, places, (i) => (said.textContent = `Place ${i + 1} of ${places.length}`))(0);
}

/** The map of the chosen model's tokens, and of its positions where it learned some. */
function drawEmbeddings(node) {
  onModel((model) => {
    node.replaceChildren();
    const { embeddings, positions, attention } = model.inspection;
    tokenCloud(node, embeddings);
    if (positions) return positionPath(node, positions);
    node.append(
      absent(
        attention
          ? `${model.name} has no map of positions: instead of learning one it turns its tokens by an angle (rotary).`
          : `${model.name} has no positions: it sees one token only.`,
      ),
    );
  });
}

/** A heat map of a table of characters with its names at the edges. */
function pairMap(title, characters, shares) {
  const canvas = el("canvas");
  const map = el(
    "div.map",
    { tabindex: 0, role: "application", "aria-label": `${title}; arrow keys move from pair to pair` },
    canvas,
  );
  const names = (kind) =>
    el(
      `div.${kind}`,
      {
        "aria-hidden": "true",
        style: `grid-template-${kind === "ys" ? "rows" : "columns"}: repeat(${characters.length}, minmax(0, 1fr))`,
      },
      characters.map((c) => el("span", {}, visible(c))),
    );
  const size = characters.length;
  return {
    canvas,
    map,
    node: el("div", {}, el("h4", {}, title), el("div.labelled", {}, names("ys"), map, names("xs"))),
    paint: () => paintHeat(canvas, size, size, (row, column) => shares[row][column]),
  };
}

/** Counted and learned probabilities of pairs, side by side; pointing at one reads both. */
function drawBigram(node) {
  const model = MODELS.find(({ inspection }) => inspection.bigram);
  if (!model)
    return node.append(absent("This run has no bigram network, so there is no table to compare with counts."));
  const { characters, counted, learned } = model.inspection.bigram;
  const pictures = [
    pairMap("Counted in the training text", characters, counted),
    pairMap(`Learned by ${model.name}`, characters, learned),
  ];
  const said = el("p.readout", { "aria-live": "polite" });
  const moves = [];
  let isMoving = false; // one map moves the other, not the other the first again
  const show = (row, column) => {
    const name = (i) => el("span.code", { lang: LANGUAGE }, visible(characters[i]));
    said.replaceChildren(
      "After ",
      name(row),
      " comes ",
      name(column),
      `: ${percent(counted[row][column])} counted, ${percent(learned[row][column])} learned.`,
    );
    if (isMoving) return;
    isMoving = true;
    moves.forEach((move) => move(row, column));
    isMoving = false;
  };
  for (const picture of pictures) moves.push(readHeat(picture.map, characters.length, characters.length, show));
  onTheme(() => pictures.forEach((picture) => picture.paint()));
  const gap = characters.flatMap((_, r) => characters.map((_, c) => Math.abs(counted[r][c] - learned[r][c])));
  const mean = gap.reduce((a, b) => a + b, 0) / gap.length;
  const start = Math.max(0, characters.indexOf("q"));
  node.append(
    el("p.key", {}, "never", el("span.scale.cool"), "always (colours follow the square root)"),
    el(
      "div.twin",
      {},
      pictures.map((picture) => picture.node),
    ),
    said,
    el(
      "p.key",
      {},
      `The ${characters.length} commonest characters. The two tables differ by ${percent(mean)} on average `,
      `and by at most ${percent(Math.max(...gap))}.`,
    ),
  );
  moves[0](start, Math.max(0, characters.indexOf("u")));
}
