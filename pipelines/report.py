"""Stage report: models/* -> reports/ (comparison, curves, gallery); every tracked run gets the chart and the table."""

from gptmodel import checkpoint, files, params, report, tracking
from gptmodel.errors import one_line_errors
from pipelines import layout


def main() -> None:
    """Compare all the models of params.yaml."""
    with one_line_errors():
        names = list(params.load(layout.PARAMS).models)
        results = {name: report.Result.read(layout.MODELS / name) for name in names}
        metas = [checkpoint.read_meta(layout.MODELS / name / "checkpoint") for name in names]
        table, points = report.comparison(results), report.curves(results)
        with files.whole_folder(layout.REPORTS) as folder:
            files.write_text(folder / "comparison.csv", table.to_csv(index=False))
            files.write_text(folder / "comparison.md", report.markdown_table(table))
            files.write_text(folder / "curves.csv", points.to_csv(index=False))
            files.write_text(folder / "samples.md", report.gallery(results))
            files.write_text(folder / "excerpt.md", report.excerpt(results))
            report.draw_curves(points, folder / "curves.png", metas[0].corpus["title"])
        print(report.markdown_table(table))
        for meta in metas:
            with tracking.run(**meta.identity(), stage="report") as run:
                run.log_folder(layout.REPORTS, "report")


if __name__ == "__main__":
    main()
