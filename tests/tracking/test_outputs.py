"""The laws of the door: a stage is mirrored when it succeeds, and nothing in tracking can change or fail it."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gptmodel import layout
from gptmodel.layout import ModelFolder
from gptmodel.tracking import outputs as door
from gptmodel.tracking.store import open_store
from tests.support import outputs, records
from tests.support.stores import files_of, points_of, repository, runs

pytestmark = pytest.mark.slow

NAME = "petit"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = repository(tmp_path, monkeypatch)
    outputs.write_corpus()
    return root


def train(folder: ModelFolder, *, tracked: bool = True) -> None:
    """Do what a training tells its observer, and leave its outputs."""
    with door.watching(outputs.meta(NAME), folder, tracked=tracked) as observer:
        observer.began({"device": "cpu"})
        for point in records.history(2.0):
            observer.evaluated(point, 100.0 if point.step else float("nan"))
        for entry in records.timeline().entries:
            observer.sampled(entry)
        outputs.write_model(NAME)


def test_a_training_is_watched_and_its_outputs_are_logged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(ModelFolder(NAME))
    assert capsys.readouterr() == ("", "")
    (run,) = runs()
    assert (run.info.status, run.data.tags["stage.train"], run.data.tags["model"]) == ("FINISHED", "finished", NAME)
    params = run.data.params
    assert {"network": "bigram", "engine.precision": "float32", "seed": "1", "device": "cpu"}.items() <= params.items()
    points = points_of(run)
    assert [step for step, _, _ in points["curves/validation_loss_nats"]] == [0, 10, 20]
    assert [step for step, _, _ in points["training/loss_nats"]] == [10, 20]  # none before the first step
    assert [step for step, _, _ in points["system/tokens_per_second"]] == [10, 20]
    assert run.data.metrics["training/tokens_per_second"] == 12345
    assert set(files_of(run.info.run_id)) == {
        "timeline.json",
        "timeline/step_000000.md",
        "timeline/step_000020.md",
        *(f"training/{name}" for name in ("history.csv", "speed.json", "timeline.json", "timeline.md")),
    }
    assert {used.dataset.name for used in run.inputs.dataset_inputs} == {
        "essai/train",
        "essai/validation",
        "essai/test",
    }


def test_every_stage_logs_its_folder_and_evaluate_and_report_the_description(root: Path) -> None:
    folder = ModelFolder(NAME)
    train(folder)
    meta = outputs.meta(NAME)
    with door.tracked(meta, folder, "evaluate"):
        pass
    note = runs()[0].data.tags["mlflow.note.content"]
    assert note.startswith("Un essai, char level: bits per character: validation 2.750 (2.650 to 2.850), test 2.500")
    assert "> **Il** fois" in note
    with door.tracked(meta, folder, "inspect"), door.tracked(meta, folder, "export"):
        pass
    with door.tracked(outputs.bundle_info(folder), folder, "benchmark"):
        pass
    outputs.write_report(NAME)
    with door.tracked(meta, folder, "report"):
        pass
    (run,) = runs()
    assert {run.data.tags[f"stage.{stage}"] for stage in door.LOG} == {"finished"}
    assert f"| {NAME} |" in run.data.tags["mlflow.note.content"]
    expected = {"test/bits_per_char": 2.5, "novelty/repetition": 0.25, "validation/best_step": 20}
    expected |= {"speed/model_mb": 2.5, "speed/tokens_per_second.batch_8": 3000.0}
    assert expected.items() <= run.data.metrics.items()
    constant = {"benchmark.processor": "a processor", "benchmark.cores": "2", "held_out.repetition": "0.25"}
    assert constant.items() <= run.data.tags.items()
    assert json.loads(run.data.tags["parity.portable"])["tolerance"] == 1e-4
    assert run.data.params["parameters"] == "1000"
    found = set(files_of(run.info.run_id))
    assert {
        "samples.json",
        "evaluation/details/samples.json",
        "evaluation/details/samples.md",
        "inspection/inspection.json",
    } <= found
    assert {"bundle/model.onnx", "benchmark/benchmark.json", "report/comparison.md"} <= found


def test_the_figures_are_few_and_the_validation_loss_is_the_first(root: Path) -> None:
    """MLflow lays its charts in alphabetical order."""
    folder = ModelFolder(NAME)
    train(folder)
    for stage in ("evaluate", "export"):
        with door.tracked(outputs.meta(NAME), folder, stage):
            pass
    with door.tracked(outputs.bundle_info(folder), folder, "benchmark"):
        pass
    (run,) = runs()
    shown = sorted(name for name in run.data.metrics if not name.startswith("system/"))
    assert shown[:2] == ["curves/validation_bits_per_char", "curves/validation_loss_nats"]
    assert {name.partition("/")[0] for name in shown} == {
        *("curves", "training"),
        *("validation", "test", "novelty", "speed"),
    }
    assert len(shown) <= 22


def test_a_run_lasts_as_long_as_its_training(root: Path) -> None:
    folder = ModelFolder(NAME)
    train(folder)
    with door.tracked(outputs.meta(NAME), folder, "evaluate"):
        assert runs()[0].info.status == "RUNNING"
    (run,) = runs()
    assert run.info.end_time - run.info.start_time == round(1000 * records.speed().seconds)


def test_a_stage_that_fails_keeps_its_error_and_logs_nothing(root: Path) -> None:
    folder = outputs.write_model(NAME)
    with pytest.raises(ZeroDivisionError), door.tracked(outputs.meta(NAME), folder, "inspect"):
        raise ZeroDivisionError
    (run,) = runs()
    assert (run.info.status, run.data.tags["stage.inspect"]) == ("FAILED", "failed")
    assert files_of(run.info.run_id) == {}


def evaluate(folder: ModelFolder) -> AbstractContextManager[None]:
    return door.tracked(outputs.meta(NAME), folder, "evaluate")


def test_what_is_off_says_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPTMODEL_TRACKING", "off")
    (layout.CLEAN / "corpus.json").unlink()
    train(ModelFolder(NAME))
    with evaluate(ModelFolder(NAME)):
        pass
    monkeypatch.delenv("GPTMODEL_TRACKING")
    train(ModelFolder(NAME), tracked=False)
    assert capsys.readouterr() == ("", "")
    assert runs() == []


def no_title_page(folder: ModelFolder) -> None:
    (layout.CLEAN / "corpus.json").unlink()


def another_text(folder: ModelFolder) -> None:
    records.clean_corpus().write(layout.CLEAN / "corpus.json")


def no_outputs(folder: ModelFolder) -> None:
    (folder.details / "novelty.json").unlink()


def damaged_outputs(folder: ModelFolder) -> None:
    (folder.evaluation / "metrics.json").write_text("{}")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (no_title_page, "off for this stage: data/clean/corpus.json does not exist"),
        (another_text, "off for this stage: data/clean holds another text than petit was trained on: run `dvc repro`"),
        (
            no_outputs,
            "stopped; the rest of this stage is not tracked (models/petit/evaluation/details/novelty.json does not",
        ),
        (damaged_outputs, "stopped; the rest of this stage is not tracked (models/petit/evaluation/metrics.json: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_read_costs_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], broken: Any, said: str
) -> None:
    folder = outputs.write_model(NAME)
    broken(folder)
    with evaluate(folder):
        pass
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1), captured.err
    assert captured.err.startswith(f"tracking: {said}")


def test_a_bug_in_tracking_fails_no_stage(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(door.LOG, "evaluate", lambda run, folder: 1 / 0)
    with evaluate(outputs.write_model(NAME)):
        pass
    assert capsys.readouterr().err == "tracking: stopped; the rest of this stage is not tracked (division by zero)\n"


def test_tables_hold_the_samples(root: Path) -> None:
    folder = ModelFolder(NAME)
    train(folder)
    (run,) = runs()
    table = Path(open_store().client.download_artifacts(run.info.run_id, "timeline.json")).read_text(encoding="utf-8")
    assert table == (
        '{"columns": ["step", "sample", "bits_per_char"], "data": [[0, "Il zzz", 6.5], [20, "Il toit\\nfin", 4.25]]}'
    )
