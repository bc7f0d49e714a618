from pathlib import Path

import pandas as pd
import pytest

from gptmodel.report import page, writer
from gptmodel.results.summary import Summary
from tests.support import runs

FILES = ["comparison.csv", "comparison.md", "curves.csv", "curves.png", "excerpt.md"]
FILES += ["index.html", "positions.csv", "samples.md"]


def test_the_whole_folder_is_written_and_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    run = runs.run()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old.csv").write_text("of an earlier run")
    for name in ("a", "b"):
        writer.write(run, tmp_path / name, tmp_path / f"{name}.json")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "index.html").read_text(encoding="utf-8") == page.render(run)
    assert list(pd.read_csv(tmp_path / "a" / "comparison.csv")["model"]) == ["gpt", "word", "pairs"]
    assert b"\r" not in (tmp_path / "a" / "curves.csv").read_bytes()


def test_the_summary_has_the_main_figures_of_every_split_and_no_times(tmp_path: Path) -> None:
    run = runs.run()
    writer.write(run, tmp_path / "reports", tmp_path / "metrics.json")
    summary = Summary.read(tmp_path / "metrics.json")
    assert list(summary.models) == list(run.models)
    gpt, metrics = summary.models["gpt"], run.models["gpt"].metrics
    assert (gpt.parameters, gpt.best_step, list(gpt.splits)) == (3000, 20, ["validation", "test"])
    assert gpt.splits["test"].model_dump().items() <= metrics.main.model_dump().items()
    assert {split: score.name for split, score in summary.baselines.items()} == {
        "validation": "kneser-ney-3",
        "test": "kneser-ney-3",
    }
    slower = {
        name: model.model_copy(update={"speed": model.speed.model_copy(update={"seconds": 1e6})})
        for name, model in run.models.items()
    }
    writer.write(run.model_copy(update={"models": slower}), tmp_path / "slower", tmp_path / "slower.json")
    assert (tmp_path / "slower.json").read_bytes() == (tmp_path / "metrics.json").read_bytes()


def test_the_summary_of_a_text_without_a_test_split_has_none(tmp_path: Path) -> None:
    writer.write(runs.run(has_test=False), tmp_path / "reports", tmp_path / "metrics.json")
    summary = Summary.read(tmp_path / "metrics.json")
    assert list(summary.models["gpt"].splits) == list(summary.baselines) == ["validation"]


def test_a_report_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    writer.write(runs.run(), tmp_path / "reports", tmp_path / "metrics.json")
    before = (tmp_path / "reports" / "index.html").read_bytes()
    broken = runs.run().model_copy(update={"models": {}})
    with pytest.raises(StopIteration):
        writer.write(broken, tmp_path / "reports", tmp_path / "metrics.json")
    assert (tmp_path / "reports" / "index.html").read_bytes() == before
