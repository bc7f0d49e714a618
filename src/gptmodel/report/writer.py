"""The folder reports/, whole or not at all."""

from pathlib import Path

import pandas as pd

from gptmodel import files
from gptmodel.report import figures, page, tables, verdict
from gptmodel.report.results import Everything


def write(everything: Everything, reports: Path) -> None:
    """Write page, verdict, tables, curves and samples to the folder `reports`."""
    points = tables.curves(everything)
    with files.whole_folder(reports) as folder:
        files.write_text(folder / "index.html", page.render(everything))
        files.write_text(folder / "verdict.md", verdict.of_run(everything).markdown())
        files.write_text(folder / "comparison.csv", _csv(tables.comparison(everything)))
        files.write_text(folder / "comparison.md", tables.comparison_markdown(everything))
        files.write_text(folder / "curves.csv", _csv(points))
        files.write_text(folder / "positions.csv", _csv(tables.positions(everything)))
        files.write_text(folder / "samples.md", tables.gallery(everything))
        files.write_text(folder / "excerpt.md", tables.excerpt(everything))
        (folder / "curves.png").write_bytes(figures.png(figures.curves(points, everything.corpus.title)))


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")
