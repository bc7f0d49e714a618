"""The laws of sync: MLflow ends as the files say, whatever it held before, and a second time changes nothing."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gptmodel.errors import UserError
from gptmodel.model import checkpoint, networks
from gptmodel.model.checkpoint import Meta
from gptmodel.params import BigramNetwork
from gptmodel.tracking import runs as tracked
from gptmodel.tracking import sync
from gptmodel.tracking.store import open_store
from tests.support import bundles
from tests.support.stores import files_of, kill, points_of, repository, runs, serving

SPLITS = {split: {"characters": 10, "sha256": digit * 64} for split, digit in zip(("train", "test"), "ab", strict=True)}
CORPUS = {"name": "essai", "title": "Un essai", "author": "nous", "year": 2020, "language": "fr", "licence": "MIT"}
CORPUS |= {"source": "written here", "typography": "fr", "splits": SPLITS}
META = Meta(
    variant="petit",
    level="char",
    network=BigramNetwork(network="bigram", context=8),
    vocab_size=30,
    tokenizer_sha256="c" * 64,
    corpus=CORPUS,
    fingerprint="f00d",
    seed=5,
)
HISTORY = "step,tokens,train_loss_nats,validation_loss_nats\n0,0,,3.5\n10,640,3.25,3.0\n20,1280,2.75,2.5\n"
CURVES = {"tokens": [0, 640, 1280], "train_loss_nats": [3.25, 2.75], "validation_loss_nats": [3.5, 3.0, 2.5]}
TRAINING = {"seconds": 60.0, "tokens_per_second": 21, "device": "cpu", "precision": "float32"}
TRAINING |= {"execution": "eager", "threads": 2}
SCORE = {"bits_per_char": 2.5, "bits_per_char_low": 2.25, "bits_per_char_high": 2.75}
TIMELINE = [
    f"## step {s}: 3.{s:03d} bits per character\n\ntemperature 0.7, seed 1\n\n> **Le** roi\n" for s in (0, 10, 20)
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one model, as the stages leave it, that MLflow knows nothing of."""
    root = repository(tmp_path, monkeypatch)
    folder = root / "models" / "petit"
    torch.manual_seed(1)
    network = networks.build(META.network, META.vocab_size)
    checkpoint.save(folder / "checkpoint", networks.weights(network), META)
    words = bundles.char_tokenizer()
    bundles.write(folder / "bundle", bundles.random_network("bigram", words), words)
    documents: dict[str, Any] = {
        "training": TRAINING,
        "metrics": {"best_step": 20, "test": SCORE},
        "novelty": {"samples": {"new_5_grams": 0.5}, "held_out": {"new_5_grams": 0.25}, "warnings": []},
        "breakdown": {"fingerprint": META.fingerprint, "by_position": []},
        "samples": [{"prompt": "Le ", "text": "roi", "temperature": 0.7, "seed": 1}],
        "sight": {"surprisal": []},
        "benchmark": {"graph": "fp32", "load_ms": 3.5, "workload": {"repeats": 5}, "machine": {"cores": 2}},
    }
    for name, value in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "history.csv").write_text(HISTORY)
    (folder / "timeline.md").write_text("\n".join(TIMELINE))
    (folder / "samples.md").write_text("> **Le** roi\n")
    (folder / "surprisal.npz").write_bytes(b"some numbers")
    (root / "reports").mkdir()
    (root / "reports" / "comparison.csv").write_text("model,parameters\npetit,900\n")
    (root / "reports" / "comparison.md").write_text("| model |\n|---|\n| petit |\n")
    return root


def stage(name: str) -> Any:
    return tracked.run(**META.identity(), stage=name)


def rows() -> list[dict[str, float]]:
    return sync._rows(Path("models/petit/history.csv"))


def lock(history: str) -> None:
    """Write a dvc.lock whose training wrote this history."""
    digest = hashlib.md5(history.encode()).hexdigest()
    out = f"{{path: models/petit/history.csv, md5: {digest}}}"
    params = "{params.yaml: {seed: 5, models.petit: {network: bigram, learning_rate: 0.25}}}"
    Path("dvc.lock").write_text(f"stages: {{train@petit: {{outs: [{{path: x, md5: y}}, {out}], params: {params}}}}}\n")


def check(run: Any) -> None:
    """Assert that a run holds all that the files say, each point once."""
    points = points_of(run)
    for name, values in CURVES.items():
        assert [value for _, value, _ in points[f"curves/{name}"]] == values
    assert {
        key: len(held) for key, held in points.items() if not key.startswith(("curves/", "system/"))
    } == dict.fromkeys((key for key in points if not key.startswith(("curves/", "system/"))), 1)
    expected = {
        "training/tokens_per_second": 21,
        "test/bits_per_char": 2.5,
        "novelty/new_5_grams": 0.5,
        "best_step": 20,
    }
    expected |= {"held_out/new_5_grams": 0.25, "speed/load_ms": 3.5}
    assert expected.items() <= run.data.metrics.items()
    assert {"network": "bigram", "context": "8", "seed": "5", "threads": "2"}.items() <= run.data.params.items()
    files = {
        "history.csv",
        "timeline.md",
        "timeline.json",
        "training.json",
        "metrics.json",
        "samples.md",
        "samples.json",
    }
    files |= {
        "surprisal.npz",
        "breakdown.json",
        "novelty.json",
        "sight.json",
        "bundle/bundle.json",
        "bundle/model.onnx",
    }
    assert set(files_of(run.info.run_id)) == {
        *files,
        "bundle/tokenizer.json",
        "report/comparison.csv",
        "report/comparison.md",
    }
    assert run.info.status == "FINISHED"
    stages = ("train", "evaluate", "explain", "export", "benchmark", "report")
    assert {run.data.tags[f"stage.{name}"] for name in stages} == {"finished"}
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("Un essai, char level: bits per character: test 2.500 (2.250 to 2.750)")
    assert "> **Le** roi" in note
    assert "| petit |" in note
    data = {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    assert data == {("essai/train", "a" * 16), ("essai/test", "b" * 16)}


def test_a_lost_store_is_rebuilt_and_a_second_sync_adds_nothing(root: Path) -> None:
    lock(HISTORY)
    assert sync.sync("petit").startswith("created, ")
    (run,) = runs()
    check(run)
    assert (run.data.tags["restored"], run.data.params["learning_rate"]) == ("true", "0.25")
    assert run.info.end_time - run.info.start_time == 60_000
    times = [when - run.info.start_time for _, _, when in points_of(run)["curves/tokens"]]
    assert times == [0, 30_000, 60_000]
    table = open_store().client.download_artifacts(run.info.run_id, "timeline.json")
    assert json.loads(Path(table).read_text()) == {
        "columns": ["step", "sample", "bits_per_char"],
        "data": [[0, "Le roi", 3.0], [10, "Le roi", 3.01], [20, "Le roi", 3.02]],
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
            run.log_history([rows()[0] | {"tokens_per_second": 3.0}, rows()[1]])
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
    file = root / "models" / "petit" / "metrics.json"
    file.write_text(file.read_text().replace("2.5,", "2.4,"))  # of the same length
    assert sync.sync("petit") == "completed, 3 figures and files added"  # the figure, the copy, the description
    (run,) = runs()
    assert run.data.metrics["test/bits_per_char"] == 2.4
    copy = open_store().client.download_artifacts(run.info.run_id, "metrics.json")
    assert Path(copy).read_bytes() == file.read_bytes()


def test_an_applied_experiment_keeps_its_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "quick-fox")
    with stage("train"):
        pass
    monkeypatch.delenv("DVC_EXP_NAME")
    assert sync.sync("petit").startswith("completed")
    (run,) = runs()
    assert run.data.tags["dvc.exp_name"] == "quick-fox"


def test_parameters_of_another_training_are_not_taken(root: Path) -> None:
    lock(HISTORY + "30,1920,2.5,2.25\n")
    sync.sync("petit")
    assert "learning_rate" not in runs()[0].data.params


def test_what_was_not_pulled_is_left_for_another_time(root: Path) -> None:
    novelty = root / "models" / "petit" / "novelty.json"  # metrics.json comes with git, this with dvc pull
    content = novelty.read_bytes()
    novelty.unlink()
    (root / "reports" / "comparison.csv").write_text("model,parameters\nautre,900\n")
    sync.sync("petit")
    (run,) = runs()
    assert "stage.evaluate" not in run.data.tags
    assert "stage.report" not in run.data.tags
    assert "test/bits_per_char" not in run.data.metrics
    novelty.write_bytes(content)
    assert sync.sync("petit").startswith("completed, ")
    assert runs()[0].data.metrics["test/bits_per_char"] == 2.5


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
            run._flushed = -1e9  # the first row at once
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
    assert (broken.info.status, len(points_of(broken)["curves/tokens"])) == ("RUNNING", 1)
    assert sync.sync("petit").startswith("completed, ")
    (run,) = runs()
    check(run)
    assert sync.sync("petit") == "up to date"


def test_the_evaluation_of_other_weights_is_left_out(root: Path) -> None:
    path = root / "models" / "petit" / "breakdown.json"
    path.write_text(json.dumps({"fingerprint": "other", "by_position": []}))
    assert sync.sync("petit").startswith("created")
    (run,) = runs()
    assert "test/bits_per_char" not in run.data.metrics
    assert "stage.evaluate" not in run.data.tags
