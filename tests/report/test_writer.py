from pathlib import Path

import pandas as pd
import pytest

from gptmodel.report import page, writer
from tests.support import runs

FILES = ["comparison.csv", "comparison.md", "curves.csv", "curves.png", "excerpt.md"]
FILES += ["index.html", "positions.csv", "samples.md", "verdict.md"]


def test_the_whole_folder_is_written_and_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    run = runs.run()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old.csv").write_text("of an earlier run")
    for name in ("a", "b"):
        writer.write(run, tmp_path / name)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "index.html").read_text(encoding="utf-8") == page.render(run)
    assert list(pd.read_csv(tmp_path / "a" / "comparison.csv")["model"]) == ["gpt", "word", "pairs"]
    assert b"\r" not in (tmp_path / "a" / "curves.csv").read_bytes()


def test_a_report_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    writer.write(runs.run(), tmp_path / "reports")
    before = (tmp_path / "reports" / "index.html").read_bytes()
    broken = runs.run().model_copy(update={"models": {}})
    with pytest.raises(StopIteration):
        writer.write(broken, tmp_path / "reports")
    assert (tmp_path / "reports" / "index.html").read_bytes() == before
