"""Training in several processes is the training in one: the trainer in float64, and the real stage under torchrun."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from gptmodel.model import loss, networks
from gptmodel.training.saved_states import Store
from gptmodel.training.trainer import ALONE, Trainer
from pipelines import clean, encode, fetch, train
from tests.support.closure import ROOT
from tests.support.training import MUON, SAVED_STEP, SHARED_STEPS, shared

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0  # a hang is a failure
RANKS = [2, 4]
TRAIN_LOSS, VALIDATION = 2, 3  # places in an Evaluation
FINE = 1e-10
COARSE = 1e-6  # validation logits are rounded to float32


def torchrun(count: int, *module: str, cwd: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    """Start a module in `count` processes, as a person would."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DVC", "GPTMODEL"))}
    path = os.pathsep.join([environment.pop("PYTHONPATH", ""), str(ROOT / "src"), str(cwd)])
    inherited |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "-m"]
    return subprocess.Popen(
        [*command, *module], cwd=cwd, env={**inherited, **environment}, stderr=subprocess.PIPE, text=True
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the exit code and what was written to standard error."""
    try:
        _, told = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.terminate()  # does nothing to a process that has ended
    return process.returncode, told


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Any:
    """Evaluate in small batches here too, and undo it."""
    before = loss.LOGITS_PER_BATCH
    yield
    loss.LOGITS_PER_BATCH = before


@pytest.fixture(scope="module")
def alone() -> dict[float, tuple[list[Any], Trainer]]:
    """The evaluations and the network of one process, for each optimizer."""
    trained = {muon: shared(ALONE, muon) for muon in (0.0, MUON)}
    return {muon: ([*each.run()], each) for muon, each in trained.items()}


@pytest.fixture(scope="module", params=RANKS)
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """What several processes wrote, for each optimizer."""
    folder = tmp_path_factory.mktemp(f"{request.param}-ranks")
    code, told = outcome(torchrun(request.param, "tests.support.training", str(folder)))
    assert code == 0, told
    return request.param, folder


def assert_same_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=FINE, msg=name)


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_many_ranks_train_like_one(
    muon: float, alone: dict[float, tuple[list[Any], Trainer]], together: tuple[int, Path]
) -> None:
    count, folder = together
    evaluations, trained = alone[muon]
    assert [e.step for e in evaluations] == [0, 10, SHARED_STEPS]
    assert evaluations[-1].validation_nats < 0.9 * evaluations[0].validation_nats
    assert_same_weights(load_file(folder / f"{muon}-0.safetensors"), networks.weights(trained.network))
    figures = [json.loads((folder / f"{muon}-{rank}.json").read_text(encoding="utf-8")) for rank in range(count)]
    for each in figures:
        assert [row[VALIDATION] for row in each] == [row[VALIDATION] for row in figures[0]]
        assert [row[TRAIN_LOSS] for row in each[1:]] == [row[TRAIN_LOSS] for row in figures[0][1:]]
    for row, expected in zip(figures[0], evaluations, strict=True):
        assert row[VALIDATION] == pytest.approx(expected.validation_nats, rel=COARSE)
        if expected.step:
            assert row[TRAIN_LOSS] == pytest.approx(expected.train_loss_nats, abs=FINE)
    first = (folder / f"{muon}-0.safetensors").read_bytes()
    assert all((folder / f"{muon}-{rank}.safetensors").read_bytes() == first for rank in range(1, count))


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_a_state_of_many_ranks_goes_on_in_one(
    muon: float, alone: dict[float, tuple[list[Any], Trainer]], together: tuple[int, Path]
) -> None:
    evaluations, whole = alone[muon]
    saved = Store(together[1] / f"{muon}-state", 1, pytest.fail).load()
    assert saved is not None
    assert saved.step == SAVED_STEP
    resumed = shared(ALONE, muon)
    resumed.load(saved.tensors, saved.facts)
    [last] = resumed.run()
    assert_same_weights(networks.weights(resumed.network), networks.weights(whole.network))
    assert last.train_loss_nats == pytest.approx(evaluations[-1].train_loss_nats, abs=FINE)
    assert last.validation_nats == pytest.approx(evaluations[-1].validation_nats, rel=COARSE)


WITNESS = """  # Python runs it at its start: who writes what, and the process id of each rank
import os, sys
log = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        os.write(log, f"{os.environ.get('RANK', '-')} {os.getpid()} {os.path.abspath(arguments[0])}\\n".encode())
if "pipelines.train" in sys.orig_argv:
    os.write(log, f"{os.environ.get('RANK', '-')} {os.getpid()} started\\n".encode())
    sys.addaudithook(note)
"""


class Project:
    """A scratch project with one tiny model, its text encoded."""

    def __init__(self, root: Path) -> None:
        self.root, self.model = root, root / "models" / "gpt-char" / "training"
        shutil.copytree(ROOT / "pipelines", root / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "src").symlink_to(ROOT / "src")
        (root / "data").mkdir()
        shutil.copy(ROOT / "data" / "catalog.yaml", root / "data")
        shutil.copy(ROOT / "tests" / "fixtures" / "roman.txt", root / "text.txt")
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values |= {"corpus": "text.txt", "device": "cpu", "models": {"gpt-char": values["models"]["gpt-char"]}}
        values["models"]["gpt-char"].update(
            {"steps": 40, "evaluate_every": 10, "warmup_steps": 4, "context": 16, "batch_size": 7, "dropout": 0.0},
            **{"n_layer": 1, "n_head": 2, "n_embd": 32, "n_hidden": 32, "muon_learning_rate": MUON},
        )
        values["engine"] = {"precision": "float32", "execution": "eager", "nonfinite": "stop"}
        values["resume"]["save_every_seconds"] = 0
        values["timeline"]["max_new_tokens"] = 5
        (root / "params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")

    def start(self) -> subprocess.Popen[str]:
        """Start the train stage in two processes."""
        watched = {"PYTHONPATH": str(self.root / "witness"), "WITNESS": str(self.root / "witness" / "log")}
        return torchrun(2, "pipelines.train", "gpt-char", cwd=self.root, GPTMODEL_TRACKING="off", **watched)

    def witnessed(self) -> list[tuple[str, int, str]]:
        """Return rank, process id and what was written, line by line."""
        lines = (self.root / "witness" / "log").read_text(encoding="utf-8").splitlines()
        return [(rank, int(pid), what) for rank, pid, what in (line.split(" ", 2) for line in lines)]

    def history(self) -> list[list[float]]:
        """Return the figures of history.csv, without the training loss before the first step."""
        table = pd.read_csv(self.model / "history.csv")
        found: list[list[float]] = table[["step", "tokens", "train_loss_nats", "validation_loss_nats"]][
            1:
        ].values.tolist()
        return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The scratch project, in which this process now works too."""
    project = Project(tmp_path)
    (tmp_path / "witness").mkdir()
    (tmp_path / "witness" / "sitecustomize.py").write_text(WITNESS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTMODEL_TRACKING", "off")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    stages: list[tuple[Callable[[], None], list[str]]] = [(fetch.main, []), (clean.main, []), (encode.main, ["char"])]
    for main, arguments in stages:
        monkeypatch.setattr(sys, "argv", ["stage", *arguments])
        main()
    monkeypatch.setattr(sys, "argv", ["train", "gpt-char"])
    return project


def stop_rank_1(project: Project) -> str:
    """Start two processes, tell rank 1 to stop once a state is saved; return what they told."""
    process = project.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list(project.root.glob(".resume/*/step-*.safetensors")):
        assert time.monotonic() < deadline, "no state was saved"
        assert process.poll() is None, outcome(process)
        time.sleep(0.02)
    [pid] = [pid for rank, pid, what in project.witnessed() if (rank, what) == ("1", "started")]
    os.kill(pid, SIGTERM)
    code, told = outcome(process)
    assert code != 0
    return told


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_two_processes_stop_together_go_on_and_one_process_can_finish(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    told = stop_rank_1(project)
    assert told.count("stopped at step") == 1, told
    step = int(told.split("stopped at step ")[1].split()[0])
    assert f"stopped at step {step} by SIGTERM: run the same command again to go on from there" in told
    assert "Traceback" not in told.split("stopped at step")[0]
    assert not project.model.exists()
    [newest] = project.root.glob(f".resume/*/step-{step:08d}.safetensors")
    states = project.root / "states"
    shutil.copytree(project.root / ".resume", states)

    code, told = outcome(project.start())
    assert code == 0, told
    assert told.count(f"gpt-char: going on from step {step}") == 1
    expected = {"checkpoint", "history.csv", "timeline.json", "timeline.md", "speed.json"}
    assert {path.name for path in project.model.iterdir()} == expected
    assert not newest.exists()
    writers = {(rank, what) for rank, _, what in project.witnessed() if what.startswith(str(project.root))}
    assert {rank for rank, _ in writers} == {"0"}
    assert any("history.csv" in what for _, what in writers)
    two, meta = project.history(), json.loads((project.model / "checkpoint" / "meta.json").read_text(encoding="utf-8"))
    assert json.loads((project.model / "speed.json").read_text(encoding="utf-8"))["processes"] == 2

    finished = {}
    for name in ("from the state", "from the beginning"):
        shutil.rmtree(project.model)
        shutil.rmtree(project.root / ".resume")
        if name == "from the state":
            shutil.copytree(states, project.root / ".resume")
        train.main()
        assert ("going on from step" in capfd.readouterr().err) == (name == "from the state")
        finished[name] = project.history()
        own = json.loads((project.model / "checkpoint" / "meta.json").read_text(encoding="utf-8"))
        assert own["fingerprint"] == meta["fingerprint"]  # the number of processes is no part of an experiment
        assert json.loads((project.model / "speed.json").read_text(encoding="utf-8"))["processes"] == 1
    for rows in finished.values():
        for row, other in zip(rows, two, strict=True):
            assert row == pytest.approx(other, rel=1e-3)  # float32: sums in another order
