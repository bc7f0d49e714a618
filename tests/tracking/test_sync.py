"""The laws of sync: MLflow ends as the files say, whatever it held before, and a second time changes nothing."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gptmodel import layout
from gptmodel.errors import UserError
from gptmodel.layout import ModelFolder
from gptmodel.results.evaluation import Breakdown
from gptmodel.results.training import Meta
from gptmodel.tracking import curves, figures, sync
from gptmodel.tracking import outputs as door
from gptmodel.tracking import runs as tracked
from gptmodel.tracking.runs import Identity
from gptmodel.tracking.store import open_store
from tests.support import outputs, records
from tests.support.stores import files_of, kill, migrated, points_of, repository, runs, serving

pytestmark = pytest.mark.slow

SECONDS = 425.4  # that the training took
NATS = records.NATS
CURVES = {"training/characters": [0, 480, 960], "training/loss_nats": [4 * NATS, 2 * NATS]}
CURVES |= {"curves/validation_loss_nats": [6.5 * NATS, 3 * NATS, 2 * NATS]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one model, as the stages leave it, that MLflow knows nothing of."""
    root = repository(tmp_path, monkeypatch)
    outputs.write_corpus()
    outputs.write_model("petit")
    outputs.write_report("petit")
    return root


def stage(name: str) -> Any:
    page = door.title_page(outputs.corpus("essai"))
    return tracked.run(Identity("f00d", "petit", "char", page), name)


def rows() -> list[dict[str, Any]]:
    return [figures.curve(point) for point in records.history(2.0)]


def check(run: Any) -> None:
    """Assert that a run holds all that the files say, each point once."""
    points = points_of(run)
    for name, values in CURVES.items():
        assert [value for _, value, _ in points[name]] == values
    single = [key for key in points if key not in figures.CURVES.values() and not key.startswith("system/")]
    assert {key: len(points[key]) for key in single} == dict.fromkeys(single, 1)
    expected = {"training/tokens_per_second": 12345, "test/bits_per_char": 2.5, "novelty/repetition": 0.25}
    expected |= {"validation/best_step": 20, "speed/model_mb": 2.5}
    assert expected.items() <= run.data.metrics.items()
    params = {"network": "bigram", "context": "12", "seed": "1", "threads": "1", "engine.nonfinite": "stop"}
    assert params.items() <= run.data.params.items()
    folders = {
        "training": ("history.csv", "timeline.md", "timeline.json", "speed.json"),
        "evaluation": ("metrics.json",),
        "evaluation/details": ("samples.md", "samples.json", "breakdown.json", "novelty.json"),
        "inspection": ("inspection.json",),
        "bundle": ("bundle.json", "model.onnx", "tokenizer.json"),
        "benchmark": ("benchmark.json",),
        "report": ("comparison.csv", "comparison.md"),
        "timeline": ("step_000000.md", "step_000020.md"),
    }
    files = {f"{folder}/{name}" for folder, names in folders.items() for name in names}
    assert set(files_of(run.info.run_id)) == {*files, "timeline.json", "samples.json"}
    assert run.info.status == "FINISHED"
    assert {run.data.tags[f"stage.{name}"] for name in door.LOG} == {"finished"}
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("Un essai, char level: bits per character: validation 2.750 (2.650 to 2.850), test 2.500")
    assert "> **Il** fois" in note
    assert "| petit |" in note
    data = {(used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs}
    assert data == {(f"essai/{split}", text.sha256[:16]) for split, text in outputs.corpus("essai").splits.items()}


def test_a_lost_store_is_rebuilt_and_a_second_sync_adds_nothing(root: Path) -> None:
    assert sync.sync("petit").startswith("created, ")
    (run,) = runs()
    check(run)
    assert (run.data.tags["restored"], run.data.params["learning_rate"]) == ("true", "0.01")
    assert run.info.end_time - run.info.start_time == round(SECONDS * 1000)
    times = [when - run.info.start_time for _, _, when in points_of(run)["curves/validation_loss_nats"]]
    assert times == [0, round(SECONDS * 500), round(SECONDS * 1000)]
    table = open_store().client.download_artifacts(run.info.run_id, "timeline.json")
    assert json.loads(Path(table).read_text()) == {
        "columns": ["step", "sample", "bits_per_char"],
        "data": [[0, "Il zzz", 6.5], [20, "Il toit\nfin", 4.25]],
    }
    written = {path: path.stat().st_ctime_ns for path in (root / "mlartifacts").rglob("*")}
    assert sync.sync("petit") == "up to date"
    (again,) = runs()
    assert (again.data.to_dictionary(), again.info.end_time) == (run.data.to_dictionary(), run.info.end_time)
    assert points_of(again) == points_of(run)
    assert {path: path.stat().st_ctime_ns for path in (root / "mlartifacts").rglob("*")} == written


def test_what_stages_have_logged_is_kept_and_completed(root: Path) -> None:
    def killed() -> None:
        with stage("train") as run:
            run.log_params({"network": "bigram", "device": "cpu"})
            run.log_history([rows()[0] | {figures.LIVE: 3.0}, rows()[1]])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    (before,) = runs()
    assert sync.sync("petit").startswith("completed, ")
    (run,) = runs()
    check(run)
    assert (run.info.run_id, run.data.tags["restored"]) == (before.info.run_id, "false")
    earlier, now = points_of(before), points_of(run)
    assert all(set(earlier[key]) <= set(now[key]) for key in earlier)
    assert sync.sync("petit") == "up to date"


def test_an_output_that_changed_replaces_its_figure_and_its_copy(root: Path) -> None:
    sync.sync("petit")
    file = ModelFolder("petit").evaluation / "metrics.json"
    content = file.read_text()
    file.write_text(content.replace('"bits_per_char": 2.5,', '"bits_per_char": 2.4,'))  # of the same length
    assert file.read_text() != content
    assert sync.sync("petit") == "completed, 3 figures and files added"  # the figure, the copy, the description
    (run,) = runs()
    assert run.data.metrics["test/bits_per_char"] == 2.4
    copy = open_store().client.download_artifacts(run.info.run_id, "evaluation/metrics.json")
    assert Path(copy).read_bytes() == file.read_bytes()


def test_an_applied_experiment_keeps_its_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "quick-fox")
    with stage("train"):
        pass
    monkeypatch.delenv("DVC_EXP_NAME")
    assert sync.sync("petit").startswith("completed")
    (run,) = runs()
    assert run.data.tags["dvc.exp_name"] == "quick-fox"


def test_what_was_not_pulled_is_left_for_another_time(root: Path) -> None:
    evaluation = ModelFolder("petit").evaluation
    elsewhere = evaluation.rename(root / "elsewhere")
    outputs.write_report("autre")
    sync.sync("petit")
    (run,) = runs()
    assert "stage.evaluate" not in run.data.tags
    assert "stage.report" not in run.data.tags
    assert "test/bits_per_char" not in run.data.metrics
    elsewhere.rename(evaluation)
    assert sync.sync("petit").startswith("completed, ")
    assert runs()[0].data.metrics["test/bits_per_char"] == 2.5


def test_a_model_of_another_text_is_refused(root: Path) -> None:
    records.clean_corpus().write(layout.CLEAN / "corpus.json")
    with pytest.raises(UserError, match="data/clean holds another text than petit was trained on: run `dvc repro`"):
        sync.sync("petit")


def test_the_models_are_those_that_are_trained(root: Path) -> None:
    outputs.write_model("autre")
    (root / "models" / "new").mkdir()
    assert sync.trained_models() == ["autre", "petit"]
    for name in ("autre", "petit"):
        (ModelFolder(name).checkpoint / "meta.json").unlink()
    with pytest.raises(UserError, match="holds no trained model: run `dvc repro`, or `dvc pull`"):
        sync.trained_models()
    with pytest.raises(UserError, match=r"models/petit/training/checkpoint/meta\.json does not exist: train the model"):
        sync.sync("petit")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [("GPTMODEL_TRACKING", "off", "unset"), ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9", "start the server")],
)
def test_no_store_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=words):
        sync.sync("petit")


def test_a_server_killed_in_mid_training_is_repaired(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(root) as (address, running):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with stage("train") as run:
            monkeypatch.setattr(curves, "FLUSH_SECONDS", 0.0)  # every row at once
            run.log_history(rows()[:1])
            kill(running)
            run.log_history(rows()[1:])
        said = capsys.readouterr().err
        assert said.startswith("tracking: stopped; the rest of this stage is not tracked")
        began = time.monotonic()
        with pytest.raises(UserError, match="no MLflow server answers"):
            sync.sync("petit")
        assert time.monotonic() - began < 5
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (broken,) = runs()
    assert (broken.info.status, len(points_of(broken)["curves/validation_loss_nats"])) == ("RUNNING", 1)
    assert sync.sync("petit").startswith("completed, ")
    (run,) = runs()
    check(run)
    assert sync.sync("petit") == "up to date"


def test_the_evaluation_of_other_weights_is_left_out(root: Path) -> None:
    path = ModelFolder("petit").details / "breakdown.json"
    Breakdown.read(path).model_copy(update={"fingerprint": "other"}).write(path)
    assert sync.sync("petit").startswith("created")
    (run,) = runs()
    assert "test/bits_per_char" not in run.data.metrics
    assert "stage.evaluate" not in run.data.tags


def do_all_stages(folder: ModelFolder) -> None:
    """Tell MLflow what the stages of a model tell it."""
    meta = Meta.read(folder.checkpoint / "meta.json")
    with door.watching(meta, folder, tracked=True) as observer:
        observer.began({"device": "cpu", "precision": "float32", "execution": "eager", "threads": 1})
        for point, entry in itertools.zip_longest(records.history(2.0), records.timeline().entries):
            observer.evaluated(point, 100.0)
            if entry:
                observer.sampled(entry)
    for name in ("evaluate", "inspect", "export", "report"):
        with door.tracked(meta, folder, name):
            pass
    with door.tracked(outputs.bundle_info(folder), folder, "benchmark"):
        pass


def test_what_the_stages_logged_leaves_nothing_to_add(root: Path) -> None:
    do_all_stages(ModelFolder("petit"))
    assert sync.sync("petit") == "up to date"
    (run,) = runs()
    check(run)


def everything(run: Any) -> dict[str, Any]:
    """Return what a run holds, less what only a clock or the process that logged it knows."""
    artifacts = Path(run.info.artifact_uri)
    neutral = {"restored", "dvc.stage", "mlflow.source.name", *(f"stage.{stage}.seconds" for stage in door.LOG)}
    return {
        "params": run.data.params,
        "tags": {key: value for key, value in run.data.tags.items() if key not in neutral},
        "points": {
            key: [(step, value) for step, value, _ in points]
            for key, points in points_of(run).items()
            if not key.startswith("system/")
        },
        "files": {path.relative_to(artifacts): path.read_bytes() for path in artifacts.rglob("*") if path.is_file()},
        "texts": sorted((used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs),
        "state": (run.info.run_name, run.info.status, run.info.end_time - run.info.start_time),
    }


def test_a_synced_run_equals_the_live_one(root: Path) -> None:
    do_all_stages(ModelFolder("petit"))
    (live,) = map(everything, runs())
    (root / "mlflow.db").write_bytes(migrated())
    sync.sync("petit")
    (synced,) = map(everything, runs())
    assert synced == live


def test_a_run_of_an_older_version_keeps_its_figures_and_gets_the_new_ones(root: Path) -> None:
    old = {"curves/tokens": 960.0, "speed/load_ms": 9.0, "wall_seconds/train": 3.0, "best_step": 20.0}
    with stage("train") as run:
        run.log_metrics(old)
    assert sync.sync("petit").startswith("completed, ")
    (completed,) = runs()
    assert old.items() <= completed.data.metrics.items()
    assert completed.data.metrics["curves/validation_bits_per_char"] == 2.0
    assert sync.sync("petit") == "up to date"
