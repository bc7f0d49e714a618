// Start: the theme, the choosers, every picture in its place, the contents.

const PICTURES = {
  corpus: drawCorpus,
  ranking: drawRanking,
  table: drawTable,
  pairs: drawPairs,
  curve: drawCurves,
  passage: drawPassage,
  heads: drawAttention,
  layers: drawLens,
  points: drawEmbeddings,
  tables: drawBigram,
  positions: drawPositions,
  classes: drawClasses,
  extremes: drawExtremes,
  figures: drawFigures,
  samples: drawSamples,
  steps: drawTimeline,
  rates: drawRates,
};

/** Light or dark: the system's choice until the button is pressed. */
function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => watchers.theme.forEach((draw) => draw());
  const isDark = () => (document.documentElement.className || (system.matches ? "dark" : "light")) === "dark";
  byId("theme").addEventListener("click", () => {
    document.documentElement.className = isDark() ? "light" : "dark";
    repaint();
  });
  system.addEventListener("change", repaint);
}

/** Mark the section that is read in the contents; on a small screen the contents begin closed. */
function startContents() {
  const links = new Map([...document.querySelectorAll("#contents a")].map((link) => [link.hash.slice(1), link]));
  const mark = (id) =>
    links.forEach((link, key) =>
      key === id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"),
    );
  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => mark(entry.target.id)),
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("section").forEach((section) => watcher.observe(section));
  if (matchMedia("(max-width: 46rem)").matches) document.querySelector("#contents details").open = false;
}

startTheme();
fillPickers();
for (const [id, draw] of Object.entries(PICTURES)) draw(byId(id));
startContents();
