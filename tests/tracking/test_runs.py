"""The laws of tracking: one run per model over all stages, nothing drawn twice, and no store can stop a stage."""

import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.errors import Stopped
from gptmodel.results.bundle import Origin
from gptmodel.tracking import runs as tracked
from gptmodel.tracking.run import Run
from gptmodel.tracking.runs import Identity
from gptmodel.tracking.store import open_store
from tests.support import outputs
from tests.support.stores import kill, serving

pytestmark = pytest.mark.slow

SOURCE = Path(tracked.__file__).parents[2]
CURVE = "curves/validation_loss_nats"
CORPUS = Origin(name="essai", title="Un essai", author=None, year=None, language="fr", licence="MIT")
STAGE = """
import sys
from gptmodel.results.bundle import Origin
from gptmodel.tracking import runs
corpus = Origin(name="premier", title="Le premier texte", author=None, year=None, language=None, licence="MIT")
with runs.run(runs.Identity(sys.argv[1], "gpt-char", "char", corpus), "train") as run:
    run.log_params({"network": "gpt"})
    run.log_history([{"step": 0, "curves/validation_loss_nats": 4.5}])
    run.log_text("Il était une fois", "samples/été.md")
print("done", "mlflow" in sys.modules)
"""

TEXT = outputs.corpus("essai")


def stage(name: str, fingerprint: str = "f00d") -> AbstractContextManager[Run]:
    return tracked.run(Identity(fingerprint, "gpt-char", "char", CORPUS), name)


def rows(*steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "training/characters": step * 2048, CURVE: 4.0 / (1 + step)} for step in steps]


def process(root: Path, fingerprint: str, script: str = STAGE, **extra: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "DVC_ROOT": str(root), "GPTMODEL_TRACKING": "", **extra}
    command = [sys.executable, "-c", script, fingerprint]
    return subprocess.Popen(
        command, env=environment, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="session")
def first_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int | None, str, str]]]:
    """A store that two processes created at the same moment, and what they said."""
    root = tmp_path_factory.mktemp("dépôt neuf")
    both = [process(root, fingerprint) for fingerprint in ("aaaa", "bbbb")]
    said = [one.communicate(timeout=120) for one in both]
    return root, [(one.returncode, *words) for one, words in zip(both, said, strict=True)]


@pytest.fixture
def root(
    tmp_path: Path, first_store: tuple[Path, list[tuple[int | None, str, str]]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A repository root with an existing store; DVC's and MLflow's variables are cleared."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE", "GPTMODEL_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # MLflow makes a folder of an address that it does not understand
    shutil.copy(first_store[0] / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path


def runs(name: str = "essai") -> list[Any]:
    """All runs of an experiment, oldest first."""
    client = open_store().client
    found = client.get_experiment_by_name(name)
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"])) if found else []


def curve(run_id: str, metric: str) -> list[int]:
    return [point.step for point in open_store().client.get_metric_history(run_id, metric)]


# One store


def test_two_processes_create_one_store_and_say_nothing(
    first_store: tuple[Path, list[tuple[int | None, str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, processes = first_store
    assert processes == [(0, "done True\n", "")] * 2
    monkeypatch.setenv("DVC_ROOT", str(root))
    both = runs("premier")
    assert sorted(run.data.tags["fingerprint"] for run in both) == ["aaaa", "bbbb"]
    assert {run.info.status for run in both} == {"FINISHED"}
    with sqlite3.connect(root / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    sample = root / "mlartifacts" / both[0].info.run_id / "artifacts" / "samples" / "été.md"
    assert sample.read_text("utf-8") == "Il était une fois"
    assert {path.name for path in root.iterdir()} <= {"mlartifacts"} | {
        f"mlflow.db{end}" for end in ("", "-wal", "-shm", ".lock")
    }


# One run per model


def test_the_stages_of_a_model_share_one_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@gpt-char")
    with stage("train") as run:
        run.log_params({"network": "gpt", "rules": ["a", "b"], "split": {"train": 0.85, "boundary": None}})
        run.log_history(rows(0, 100))
        run.log_corpus(TEXT)
        run.set_note("# Un essai")
        assert runs()[0].info.status == "RUNNING"
    monkeypatch.setenv("DVC_STAGE", "evaluate@gpt-char")
    with stage("evaluate") as run:
        run.log_metrics({"test": {"loss_nats": 1.25, "by": {"line": 2}, "note": "not a number", "empty": None}})
    with stage("export") as run:
        bundle = root / "bundle"
        bundle.mkdir()
        (bundle / "bundle.json").write_text("{}")
        run.log_folder(bundle, "bundle")
        run.log_file(bundle / "bundle.json", "again")
    (only,) = runs()
    tags, data = only.data.tags, only.data
    assert only.info.status == "FINISHED"
    assert data.params == {"network": "gpt", "rules": '["a", "b"]', "split.train": "0.85", "split.boundary": "null"}
    assert {"test/loss_nats": 1.25, "training/characters": 204800.0}.items() <= data.metrics.items()
    assert {key for key in data.metrics if key.startswith("test/")} == {"test/loss_nats", "test/by.line"}
    assert {name: tags[f"stage.{name}"] for name in ("train", "evaluate", "export")} == dict.fromkeys(
        ("train", "evaluate", "export"), "finished"
    )
    expected = {"corpus": "essai", "corpus.title": "Un essai", "level": "char", "model": "gpt-char"}
    expected |= {"dvc.stage": "evaluate@gpt-char", "restored": "false", "mlflow.note.content": "# Un essai"}
    assert expected.items() <= tags.items()
    assert "corpus.author" not in tags  # not known
    found = {(used.dataset.name, used.dataset.digest) for used in only.inputs.dataset_inputs}
    assert found == {(f"essai/{split}", text.sha256[:16]) for split, text in TEXT.splits.items()}
    artifacts = root / "mlartifacts" / only.info.run_id / "artifacts"
    assert sorted(str(path.relative_to(artifacts)) for path in artifacts.rglob("*.json")) == [
        "again/bundle.json",
        "bundle/bundle.json",
    ]


@pytest.mark.parametrize("ended", [KeyboardInterrupt(), Stopped(15, "stopped at step 200")], ids=["Ctrl-C", "SIGTERM"])
def test_a_resumed_training_draws_no_point_twice(root: Path, ended: BaseException) -> None:
    def interrupted(run: Run) -> None:
        run.log_history(rows(0, 100, 200))
        raise ended

    with pytest.raises(type(ended)), stage("train") as run:
        interrupted(run)
    assert (runs()[0].info.status, runs()[0].data.tags["stage.train"]) == ("KILLED", "killed")
    with stage("train") as run:
        run.log_history(rows(100))
        run.log_history(rows(200, 300))
    (only,) = runs()
    assert curve(only.info.run_id, CURVE) == [0, 100, 200, 300]
    assert only.info.status == "FINISHED"


def test_a_training_done_again_supersedes_the_finished_one(root: Path) -> None:
    for _ in range(2):
        with stage("train") as run:
            run.log_history(rows(0, 100))
    with stage("evaluate") as run:
        run.log_metrics({"test": {"loss_nats": 1.0}})
    old, new = runs()
    assert (old.data.tags["superseded"], old.info.run_name) == ("true", "gpt-char (superseded)")
    assert old.data.tags["superseded.by"] == new.info.run_id
    assert "test/loss_nats" in new.data.metrics
    assert "test/loss_nats" not in old.data.metrics
    assert curve(new.info.run_id, CURVE) == [0, 100]


def test_a_stage_without_its_training_run_restores_one(root: Path) -> None:
    for name in ("export", "benchmark"):
        with stage(name):
            pass
    (only,) = runs()
    assert only.data.tags["restored"] == "true"
    with stage("train", "another"):
        pass
    assert len(runs()) == 2


def test_an_experiment_on_evaluation_leaves_the_baseline_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(loss: float) -> None:
        with stage("evaluate") as run:
            run.log_metrics({"test": {"loss_nats": loss}})

    with stage("train"):
        pass
    evaluate(1.0)
    monkeypatch.setenv("DVC_EXP_NAME", "quick-fox")
    evaluate(2.0)
    evaluate(3.0)
    monkeypatch.delenv("DVC_EXP_NAME")
    baseline, child = runs()
    assert baseline.data.metrics["test/loss_nats"] == 1.0
    assert child.data.metrics["test/loss_nats"] == 3.0
    assert child.data.tags["mlflow.parentRunId"] == baseline.info.run_id
    assert child.info.run_name == "gpt-char [quick-fox]"
    evaluate(4.0)
    assert [run.data.metrics["test/loss_nats"] for run in runs()] == [4.0, 3.0]


def test_an_experiments_report_stays_off_the_baselines_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train", "report"):
        with stage(name):
            pass
    monkeypatch.setenv("DVC_EXP_NAME", "quick-fox")
    with stage("report") as run:
        assert (run.client, run.id) == (None, "")
    with stage("train", "another"), stage("report", "another") as run:
        assert run.id
    assert len(runs()) == 2


def test_a_failing_stage_fails_its_run_and_keeps_its_error(root: Path) -> None:
    with pytest.raises(ZeroDivisionError), stage("train"):
        raise ZeroDivisionError
    (only,) = runs()
    assert (only.info.status, only.data.tags["stage.train"]) == ("FAILED", "failed")


def test_values_that_change_and_figures_that_stay(root: Path) -> None:
    with stage("train") as run:
        run.log_params({"device": "cpu", "text": "é" * 7000, **{f"p{i}": i for i in range(150)}})
        run.log_history({"step": i, "nan": float("nan"), **{f"m{k}": 1.0 for k in range(10)}} for i in range(250))
    for device in ("cpu", "cuda"):
        with stage("evaluate") as run:
            run.log_params({"device": device})
            run.log_metrics({"loss": 1.0})
    (only,) = runs()
    assert (only.data.params["device"], only.data.tags["param.device"]) == ("cpu", "cuda")
    assert (len(only.data.params), len(only.data.params["text"])) == (152, 6000)
    assert curve(only.info.run_id, "loss") == [0]
    assert curve(only.info.run_id, "m9") == list(range(250))
    assert "nan" not in only.data.metrics


def test_artifacts_that_the_run_holds_are_not_written_again(root: Path) -> None:
    file = root / "kept" / "inner" / "été.json"
    file.parent.mkdir(parents=True)
    for value, written in (("1", 2), ("1", 0), ("2", 2)):  # the file in its folder, and by itself
        file.write_text(value)
        with stage("train") as run:
            before = run.written
            run.log_folder(root / "kept", "folder")
            run.log_file(file)
            assert run.written - before == written
        open_store().client.set_tag(run.id, "stage.train", "killed")  # the next one goes on with this run
    (only,) = runs()
    artifacts = root / "mlartifacts" / only.info.run_id / "artifacts"
    assert [path.read_text() for path in artifacts.rglob("*.json")] == ["2", "2"]


def test_tables_are_those_that_mlflow_shows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    with stage("train") as run:
        for _ in range(2):
            run.log_table([{"step": 0, "text": "été"}, {"step": 10, "text": "né"}], "samples/one.json")
        run.log_table([{"step": 0}], "two.json")
    (only,) = runs()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # which the next line sets
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    table = mlflow.MlflowClient().load_table(only.info.experiment_id, "samples/one.json", [only.info.run_id])
    assert table.to_dict(orient="list") == {"step": [0, 10], "text": ["été", "né"]}
    assert json.loads(only.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "samples/one.json", "type": "table"},
        {"path": "two.json", "type": "table"},
    ]


def test_the_machine_is_looked_at_beside_the_curve(root: Path) -> None:
    with stage("train") as run:
        for step in (0, 100, 200):
            run.log_history(rows(step))
    (only,) = runs()
    assert curve(only.info.run_id, "system/process_memory_megabytes") == [0, 100, 200]
    assert curve(only.info.run_id, "system/cpu_utilization_percentage") == [100, 200]  # of intervals
    assert 10 < only.data.metrics["system/process_memory_megabytes"] < 100_000
    assert 0 < only.data.metrics["system/system_memory_usage_percentage"] <= 100


def test_a_curve_that_arrived_in_part_is_not_taken_for_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second of its batches fails, a resumed training still logs the rest."""
    with stage("train") as run:
        real, sizes = run.client.log_batch, []

        def log_batch(*arguments: Any, **named: Any) -> None:
            sizes.append(len(named.get("metrics", [])))
            if len(sizes) == 2:
                raise OSError("the network is gone")
            real(*arguments, **named)

        monkeypatch.setattr(run.client, "log_batch", log_batch)
        run.log_history({"step": i, **{f"m{k}": 1.0 for k in range(10)}} for i in range(150))
    assert sizes[0] == 900
    assert "history.curves" not in runs()[0].data.tags


def test_any_name_is_taken(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stage("train") as run:

        @settings(max_examples=5, deadline=None)
        @given(st.dictionaries(st.text(max_size=300), st.floats(), min_size=20))
        def law(metrics: dict[str, float]) -> None:
            run.log_metrics(metrics)
            run.log_params(metrics)
            run.set_tags(metrics)

        law()
    assert capsys.readouterr().err == ""


# No store can stop a stage


def test_off_imports_no_mlflow(tmp_path: Path) -> None:
    assert process(tmp_path, "f", GPTMODEL_TRACKING="off").communicate() == ("done False\n", "")
    assert list(tmp_path.iterdir()) == []


def test_without_mlflow_one_line_says_so(tmp_path: Path) -> None:
    said = process(tmp_path, "f", script=f"import sys; sys.modules['mlflow'] = None\n{STAGE}").communicate()
    assert said[0] == "done True\n"  # the None above
    assert said[1].count("\n") == 1
    assert "mlflow cannot be imported" in said[1]


def all_of_it(run: Run, folder: Path) -> None:
    """Call everything a run can do, with files in a new folder inside `folder`."""
    folder = folder / "inside"
    folder.mkdir(exist_ok=True)
    (folder / "file.txt").write_text("x")
    run.log_params({"a": 1})
    run.log_history(rows(0))
    run.log_metrics({"m": 1.0})
    run.log_text("x", "x.txt")
    run.log_file(folder / "file.txt")
    run.log_folder(folder, "folder")
    run.log_corpus(TEXT)
    run.log_table([{"a": 1}], "table.json")
    run.set_tags({"t": 1})
    run.set_note("note")


def unreachable(root: Path) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def corrupt(root: Path) -> str:
    (root / "bad.db").write_bytes(b"SQLite? no. " * 500)
    return f"sqlite:///{root}/bad.db"


def read_only(root: Path) -> str:
    return f"sqlite:///file:{root}/mlflow.db?mode=ro&uri=true"


def of_another_version(root: Path) -> str:
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    return f"sqlite:///{root}/mlflow.db"


def a_folder(root: Path) -> str:
    return f"sqlite:///{root}"


def of_unknown_kind(root: Path) -> str:
    return "nonsense://somewhere"


@pytest.mark.parametrize(
    "broken", [unreachable, corrupt, read_only, of_another_version, a_folder, of_unknown_kind], ids=lambda f: f.__name__
)
def test_a_broken_store_costs_one_line(
    broken: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", broken(root))
    started = time.monotonic()
    with stage("train") as run:
        all_of_it(run, tmp_path)
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said.err
    assert said.err.startswith("tracking: off for this stage: ")
    assert (run.client, run.id) == (None, "")
    assert time.monotonic() - started < 15  # MLflow alone waits 100 s and more


def test_a_full_disk_stops_tracking_only(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with stage("train") as run:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
            run.log_params({"before": "é" * 5000})
            all_of_it(run, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert said.startswith("tracking: stopped; ")
    assert said.count("\n") == 1, said


@pytest.fixture
def server(root: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real MLflow server over the store."""
    with serving(root, root / "served") as running:
        yield running


def test_a_server_killed_in_the_middle_stops_tracking_only(
    server: tuple[str, subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, running = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with stage("train") as run:
        all_of_it(run, tmp_path)
    assert capsys.readouterr() == ("", "")
    assert runs()[0].info.status == "FINISHED"
    assert next((tmp_path / "served").rglob("x.txt")).read_text() == "x"
    with stage("evaluate") as run:
        run.log_metrics({"before": 1.0})
        kill(running)
        started = time.monotonic()
        all_of_it(run, tmp_path)
        assert time.monotonic() - started < 20
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1), said.err
    assert said.err.startswith("tracking: stopped; ")
