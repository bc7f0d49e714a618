// Charts: scales, axes, a line chart that can be read by pointer and by keyboard, heat maps.

/** A straight or logarithmic scale from a domain to pixels. */
function scale([low, high], [from, to], log = false) {
  const f = log ? Math.log : (x) => x;
  return (value) => from + ((f(value) - f(low)) / (f(high) - f(low) || 1)) * (to - from);
}

/** Round numbers that divide a range into about `wanted` parts. */
function ticks(low, high, wanted = 6) {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((s) => s * power >= raw) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from(
    { length: Math.floor(high / step + 1e-9) - first + 1 },
    (_, i) => +((first + i) * step).toPrecision(12),
  );
}

/** Round numbers on a logarithmic axis: 1, 2, 5, 10 … */
function logTicks(low, high, wanted = 8) {
  const all = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10)
    for (const step of [1, 2, 5]) if (step * power >= low && step * power <= high) all.push(step * power);
  return all.length <= wanted ? all : all.filter((value) => /^1/.test(value));
}

/** Thousands and millions for an axis. */
const short = (value) => (value >= 1e6 ? `${value / 1e6} M` : value >= 1e4 ? `${value / 1e3} k` : count(value));

/** The mark of a series at a point: each series has its own shape, so that colour is not all. */
function marker(index, x, y, size = 4) {
  const s = size * 1.15;
  const shapes = [
    () => svg("circle", { cx: x, cy: y, r: size }),
    () => svg("rect", { x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8, height: size * 1.8 }),
    () => svg("path", { d: `M${x} ${y - s}L${x + s} ${y + s * 0.8}H${x - s}Z` }),
    () => svg("path", { d: `M${x} ${y - s * 1.2}L${x + s} ${y}L${x} ${y + s * 1.2}L${x - s} ${y}Z` }),
    () => svg("path", { d: `M${x - s} ${y - s * 0.8}H${x + s}L${x} ${y + s}Z` }),
  ];
  const node = shapes[index % shapes.length]();
  node.setAttribute("fill", modelColor(index));
  return node;
}

/** The legend of a chart of models; the returned function writes a value behind each name. */
function legend(names) {
  const values = names.map(() => el("b"));
  const items = names.map((name, i) => {
    const picture = svg(
      "svg",
      { viewBox: "0 0 16 8", "aria-hidden": "true" },
      svg("path", { d: "M0 4H16", stroke: modelColor(i), "stroke-width": 2 }),
      marker(i, 8, 4, 3.5),
    );
    return el("li", {}, picture, name, values[i]);
  });
  return {
    node: el("ul.legend", {}, items),
    write: (texts) => values.forEach((b, i) => (b.textContent = texts[i] ?? "")),
  };
}

/** Axes with round numbers and their labels. */
function axes(box, x, y) {
  const parts = [];
  for (const value of y.ticks) {
    const at = y.scale(value);
    parts.push(
      svg("path.axis", { d: `M${box.left} ${at}H${box.right}` }),
      svg("text", { x: box.left - 7, y: at + 4, "text-anchor": "end" }, String(value)),
    );
  }
  for (const value of x.ticks) {
    const at = x.scale(value);
    parts.push(
      svg("path.axis", { d: `M${at} ${box.bottom}v5` }),
      svg("text", { x: at, y: box.bottom + 18, "text-anchor": "middle" }, short(value)),
    );
  }
  parts.push(
    svg("text", { x: box.right, y: box.bottom + 36, "text-anchor": "end" }, x.label),
    svg("text", { x: 0, y: box.top - 9 }, y.label),
  );
  return parts;
}

/** The point of a series that is nearest to x on the scale. */
const nearest = (points, x, to) =>
  points.reduce((a, b) => (Math.abs(to(b[0]) - to(x)) < Math.abs(to(a[0]) - to(x)) ? b : a));

/**
 * A line chart of models over a logarithmic x. `series`: {name, index, points: [[x, y]], faint: [[x, y]]};
 * pointing at it, or the arrow keys, writes the values at the nearest x into the legend.
 */
function lineChart(node, { series, xLabel, yLabel, label, say }) {
  const key = legend(series.map((line) => line.name));
  const place = el("div");
  const said = el(
    "p.readout.key",
    { "aria-live": "polite" },
    "Point at the picture, or focus it and use ← →, to read the values.",
  );
  node.append(key.node, place, said);
  const every = series.flatMap((line) => [...line.points, ...(line.faint || [])]);
  const xs = [...new Set(series.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
  const range = (i) => {
    const [low, high] = [Math.min(...every.map((p) => p[i])), Math.max(...every.map((p) => p[i]))];
    return low < high ? [low, high] : [low * 0.9, high * 1.1];
  };
  const yTicks = ticks(...range(1));
  onWidth(place, (width) => {
    const box = { left: 38, right: width - 8, top: 26, bottom: 300 };
    const x = scale(range(0), [box.left + 6, box.right - 6], true);
    const y = scale([Math.min(range(1)[0], yTicks[0]), range(1)[1]], [box.bottom - 4, box.top]);
    const guide = svg("path.guide");
    const path = (points) => `M${points.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L")}`;
    const lines = series.map((line) => [
      line.faint?.length
        ? svg("path", {
            d: path(line.faint),
            fill: "none",
            stroke: modelColor(line.index),
            "stroke-width": 1.6,
            "stroke-dasharray": "1.5 3.5",
          })
        : null,
      svg("path", { d: path(line.points), fill: "none", stroke: modelColor(line.index), "stroke-width": 2 }),
      line.points.map(([a, b]) => marker(line.index, x(a), y(b), line.points.length > 40 ? 0 : 3)),
    ]);
    const drawing = svg(
      "svg.chart",
      { height: 345, role: "img", "aria-label": label, tabindex: 0 },
      axes(
        box,
        { ticks: logTicks(...range(0), width < 500 ? 5 : 9), scale: x, label: xLabel },
        { ticks: yTicks, scale: y, label: yLabel },
      ),
      lines,
      guide,
    );
    let at = xs.length - 1;
    const show = (index) => {
      at = clamp(index, 0, xs.length - 1);
      guide.setAttribute("d", `M${x(xs[at])} ${box.top}V${box.bottom}`);
      key.write(
        series.map((line) =>
          [line.points, line.faint]
            .filter((points) => points?.length)
            .map((points) => fixed(nearest(points, xs[at], x)[1]))
            .join(" / "),
        ),
      );
      said.textContent = say(xs[at]);
    };
    drawing.addEventListener("pointermove", (event) => {
      const px = event.clientX - drawing.getBoundingClientRect().left;
      show(xs.reduce((best, value, i) => (Math.abs(x(value) - px) < Math.abs(x(xs[best]) - px) ? i : best), 0));
    });
    onKeys(drawing, {
      ArrowLeft: () => show(at - 1),
      ArrowRight: () => show(at + 1),
      Home: () => show(0),
      End: () => show(xs.length - 1),
    });
    place.replaceChildren(drawing);
  });
}

/** The 256 colours of the cool ramp in the present theme, as [r, g, b, a] bytes. */
function rampBytes() {
  const canvas = el("canvas", { width: 256, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const gradient = context.createLinearGradient(0, 0, 256, 0);
  [0, 1, 2, 3].forEach((i) => gradient.addColorStop(i / 3, computedColor(`ramp-${i}`)));
  context.fillStyle = gradient;
  context.fillRect(0, 0, 256, 1);
  return context.getImageData(0, 0, 256, 1).data;
}

let ramp = null;
onTheme(() => (ramp = rampBytes()));

/** Paint shares (0 to 1, row by row) into a canvas, one pixel each; the square root lets small shares be seen. */
function paintHeat(canvas, rows, columns, shareAt) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const at = Math.round(Math.sqrt(clamp(shareAt(Math.floor(i / columns), i % columns), 0, 1)) * 255) * 4;
    image.data.set(ramp.subarray(at, at + 4), i * 4);
  }
  context.putImageData(image, 0, 0);
}

/** Let a heat map be read: pointing at a cell, or the arrow keys, calls `show(row, column)` and frames the cell. */
function readHeat(map, rows, columns, show, start = [0, 0]) {
  let [row, column] = start;
  const cursor = el("span.cursor");
  map.append(cursor);
  const move = (r, c) => {
    [row, column] = [clamp(r, 0, rows - 1), clamp(c, 0, columns - 1)];
    const place = { left: column / columns, top: row / rows, width: 1 / columns, height: 1 / rows };
    for (const [side, share] of Object.entries(place)) cursor.style[side] = `${share * 100}%`;
    show(row, column);
  };
  const point = (event) => {
    const box = map.getBoundingClientRect();
    move(
      Math.floor(((event.clientY - box.top) / box.height) * rows),
      Math.floor(((event.clientX - box.left) / box.width) * columns),
    );
  };
  map.addEventListener("pointermove", point);
  map.addEventListener("pointerdown", point);
  onKeys(map, {
    ArrowLeft: () => move(row, column - 1),
    ArrowRight: () => move(row, column + 1),
    ArrowUp: () => move(row - 1, column),
    ArrowDown: () => move(row + 1, column),
  });
  return move;
}
