"""Stage report: models/* and the ladder -> reports/ (page, comparison, curves, gallery); every tracked run gets it."""

from gptmodel import checkpoint, compare, files, mirror, page, params, report, scores, tracking
from gptmodel.errors import one_line_errors
from gptmodel.outputs import read_json
from gptmodel.surprisal import CharacterCosts
from pipelines import layout


def main() -> None:
    """Compare all the models of params.yaml and show them."""
    with one_line_errors():
        names = list(params.load(layout.PARAMS).models)
        results = {name: report.Result.read(layout.MODELS / name) for name in names}
        metas = [checkpoint.read_meta(layout.MODELS / name / "checkpoint") for name in names]
        table, points = report.comparison(results), report.curves(results)
        counts = read_json(layout.LADDER / "ladder.json")
        costs = {name: CharacterCosts.read(layout.MODELS / name / "surprisal.npz") for name in names}
        costs[counts["best"]] = CharacterCosts.read(layout.LADDER / "surprisal.npz")
        pairs = compare.pairs(costs, "test" if "test" in counts["splits"] else "validation")
        shown = page.collect(results, layout.MODELS, layout.CLEAN / "corpus.json", layout.LADDER / "ladder.json", pairs)
        comparison = f"{report.markdown_table(table)}\n{report.counts(counts)}\n"
        with files.whole_folder(layout.REPORTS) as folder:
            files.write_text(folder / "index.html", page.render(shown))
            files.write_text(folder / "comparison.csv", table.to_csv(index=False))
            files.write_text(folder / "comparison.md", comparison)
            files.write_text(folder / "curves.csv", points.to_csv(index=False))
            files.write_text(folder / "positions.csv", report.positions(results).to_csv(index=False))
            files.write_text(folder / "samples.md", report.gallery(results))
            files.write_text(folder / "excerpt.md", report.excerpt(results))
            report.draw_curves(points, folder / "curves.png", metas[0].corpus["title"])
        print(comparison)
        for meta in metas:
            with tracking.run(**meta.identity(), stage="report") as run:
                mirror.reported(run, layout.REPORTS)
                summary = scores.summary(meta, results[meta.variant].metrics)
                mirror.describe(run, summary, layout.MODELS / meta.variant, layout.REPORTS)


if __name__ == "__main__":
    main()
