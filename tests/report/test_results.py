from pathlib import Path

import pytest

from gptmodel import layout
from gptmodel.errors import UserError
from gptmodel.report.results import Everything
from tests.support import runs


def read(root: Path) -> Everything:
    folders = {name: layout.ModelFolder(name, root / layout.MODELS) for name in runs.run().models}
    return Everything.read(folders, root / layout.CLEAN, root / layout.BASELINES)


@pytest.mark.parametrize("has_test", [True, False])
def test_what_the_stages_wrote_is_read_back_and_compared(tmp_path: Path, has_test: bool) -> None:
    run = runs.run(has_test)
    runs.write(run, tmp_path)
    everything = read(tmp_path)
    assert everything.model_copy(update={"pairs": run.pairs}) == run
    assert everything.main_split == ("test" if has_test else "validation")
    compared = {frozenset((pair.a, pair.b)) for pair in everything.pairs}
    names = [*run.models, run.baselines.best]
    assert compared == {frozenset((a, b)) for a in names for b in names if a != b}
    assert all(pair.is_real == (pair.high < 0) for pair in everything.pairs)


def test_the_best_model_on_the_main_split_comes_first() -> None:
    run = runs.run()
    assert list(run.models) == ["pairs", "gpt", "word"]
    assert list(run.best_first) == ["gpt", "word", "pairs"]
    assert run.best_first["word"] is run.models["word"]


def test_a_pair_is_found_from_both_sides() -> None:
    run = runs.run()
    assert run.pair("word", "gpt") is run.pair("gpt", "word")
    assert (run.pair("word", "gpt").a, run.pair("word", "gpt").b) == ("gpt", "word")


@pytest.mark.parametrize(
    "file",
    [
        "training/checkpoint/meta.json",
        "training/speed.json",
        "training/history.csv",
        "training/timeline.json",
        "evaluation/metrics.json",
        "evaluation/details/breakdown.json",
        "evaluation/details/novelty.json",
        "evaluation/details/samples.json",
        "inspection/inspection.json",
        "benchmark/benchmark.json",
    ],
)
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, file: str) -> None:
    path = runs.write(runs.run(), tmp_path)["gpt"].path / file
    path.write_text("{")
    with pytest.raises(UserError, match=rf"gpt/{file}.* run `dvc repro`"):
        read(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=rf"gpt/{file} does not exist: run `dvc repro`"):
        read(tmp_path)
