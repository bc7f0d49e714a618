"""A training that is stopped, killed, damaged, or run twice ends in the bytes of one that nobody disturbed.

Every training here is the stage itself, in a process of its own (see stage_for_tests.py); kills are SIGKILL.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from tests.support.closure import ROOT
from tests.support.stage import MODEL, Trap

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kills processes")]
OUTPUTS = ["checkpoint/meta.json", "checkpoint/model.safetensors", "history.csv", "timeline.md"]
STEPS, EVALUATE_EVERY = 24, 8
STEP, EVALUATION = "gptmodel.training.trainer:Trainer._advance", "gptmodel.training.trainer:total_nats"
SAMPLE, SAVE, WRITE = (
    "gptmodel.training.history:Journal._add_sample",
    "gptmodel.training.saved_states:Store.save",
    "gptmodel.training.history:Journal.write",
)
DISK = ["os:fsync", "os:replace", "os:unlink", "pathlib:Path.write_bytes"]  # every call of a save that changes the disk
INTERRUPTED = 14  # the step of the newest state in `interrupted`

Bytes = dict[str, bytes]


class Server:
    """The process that forks trainings."""

    def __init__(self, project: Path) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "tests.support.stage"]
        environment = {**clean_environment(), "PYTHONPATH": path}
        self.process = subprocess.Popen(
            command, cwd=project, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **command: Any) -> dict[str, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(command), file=self.process.stdin, flush=True)
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer


@dataclass(frozen=True)
class Running:
    """A training that was started."""

    server: Server
    pid: int
    errors: Path

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end; return the exit code (-9: killed) and what it said, progress left out."""
        code = self.server.ask(pid=self.pid)["code"]
        lines = self.errors.read_text(encoding="utf-8").splitlines()
        return code, [line for line in lines if not line.startswith(f"train {MODEL} on ")]


@dataclass(frozen=True)
class Place:
    """A folder with parameters and tokens, in which the model can be trained."""

    server: Server
    root: Path

    def start(self, *traps: Trap, largest_file: int | None = None) -> Running:
        errors = self.root / f"errors-{len(list(self.root.glob('errors-*')))}.txt"
        command = {"folder": str(self.root), "errors": str(errors), "traps": traps, "largest_file": largest_file}
        return Running(self.server, self.server.ask(**command)["pid"], errors)

    def train(self, *traps: Trap, largest_file: int | None = None) -> tuple[int, list[str]]:
        return self.start(*traps, largest_file=largest_file).end()

    def finish(self) -> list[str]:
        """Train, undisturbed, to the end; return what was said."""
        code, said = self.train()
        assert code == 0, said
        assert self.saved() == {}
        return said

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change params.yaml."""
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")

    def save_every(self, seconds: float) -> None:
        self.edit(lambda values: values["resume"].update(save_every_seconds=seconds))

    def outputs(self) -> Bytes:
        return outputs(self.root)

    def saved(self) -> Bytes:
        """Return all files of unfinished trainings."""
        paths = sorted(path for path in (self.root / ".resume").rglob("*") if path.parent.name != ".resume")
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}

    def newest(self, kind: str) -> Path:
        """Return the file of the newest saved state: "json" or "safetensors"."""
        return max((self.root / ".resume").glob(f"*/step-*.{kind}"))


def outputs(root: Path) -> Bytes:
    return {name: (root / "models" / MODEL / name).read_bytes() for name in OUTPUTS}


def clean_environment() -> dict[str, str]:
    inherited = {key: v for key, v in os.environ.items() if not key.startswith(("MLFLOW", "DVC", "GPTMODEL"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**inherited, "PATH": path, "GPTMODEL_TRACKING": "off", "PYTHONDONTWRITEBYTECODE": "1"}


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=root, env=clean_environment(), capture_output=True, text=True, check=False, timeout=200
    )


def tiny(values: dict[str, Any]) -> None:
    """One model with all that must be resumed: Muon and AdamW, dropout, several epochs, a schedule."""
    model = values["models"]["gpt-char"] | {"context": 32, "batch_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 32}
    model |= {"n_hidden": 64, "dropout": 0.1, "learning_rate": 0.01, "muon_learning_rate": 0.02, "windows": "shuffled"}
    model |= {"steps": STEPS, "evaluate_every": EVALUATE_EVERY, "warmup_steps": 4, "warmdown": 0.5}
    values |= {"corpus": "data/own/roman.txt", "models": {MODEL: model}}
    values["split"] = {"train": 0.7, "validation": 0.15, "test": 0.15, "boundary": "line"}
    values["engine"] = {"precision": "float32", "execution": "eager", "nonfinite": "stop"}
    values["resume"] = {"save_every_seconds": 0.0, "keep": 2}
    values["timeline"]["max_new_tokens"] = 5


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch copy of this repository, ready to train."""
    root = tmp_path_factory.mktemp("session") / "project"
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (root / "data" / "own").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", root / "data")
    shutil.copy(ROOT / "tests" / "fixtures" / "roman.txt", root / "data" / "own")
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    Place(None, root).edit(tiny)  # type: ignore[arg-type]  # nothing is trained yet
    for stage in (["fetch"], ["clean"], ["encode", "char"]):
        done = run(root, "python", "-m", f"pipelines.{stage[0]}", *stage[1:])
        assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def untouched(project: Path, server: Server) -> Bytes:
    """The outputs of one undisturbed `python -m pipelines.train tiny`."""
    done = run(project, "python", "-m", "pipelines.train", MODEL)
    assert done.returncode == 0, done.stderr
    return outputs(project)


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    server = Server(project)
    yield server
    with contextlib.suppress(BrokenPipeError):
        server.process.communicate(timeout=30)


def fresh(project: Path, server: Server, root: Path) -> Place:
    """Return a place without a training so far."""
    shutil.copytree(project / "data", root / "data")
    shutil.copy(project / "params.yaml", root)
    return Place(server, root)


@pytest.fixture
def place(project: Path, server: Server, tmp_path: Path) -> Place:
    """A place without a training so far."""
    return fresh(project, server, tmp_path / "place")


@pytest.fixture(scope="module")
def killed(project: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with a training that was killed when the states of steps 13 and 14 were saved."""
    place = fresh(project, server, tmp_path_factory.mktemp("killed"))
    assert place.train(trap(STEP, INTERRUPTED + 1)) == (-SIGKILL, [])
    return place


@pytest.fixture
def interrupted(killed: Place, tmp_path: Path) -> Place:
    """A copy of `killed`."""
    shutil.copytree(killed.root, tmp_path / "interrupted")
    return Place(killed.server, tmp_path / "interrupted")


def wait_for(root: Path, state: str) -> None:
    """Wait until a training there has saved a state."""
    wait_until(lambda: bool(list((root / ".resume").glob(f"*/{state}"))))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def trap(at: str | list[str], call: int, number: signal.Signals = SIGKILL) -> Trap:
    return {"at": [at] if isinstance(at, str) else at, "call": call, "signal": number}


def test_killed_at_random_moments_until_it_is_done(place: Place, untouched: Bytes) -> None:
    moments, kills, code = random.Random(1), 0, -SIGKILL
    while code and kills < 15:
        training = place.start()
        time.sleep(moments.uniform(0.05, 0.3))
        os.kill(training.pid, SIGKILL)
        code, _ = training.end()
        kills += code == -SIGKILL
    if code:
        place.finish()
    assert kills >= 2
    assert place.outputs() == untouched


def test_killed_inside_the_save_again_and_again(place: Place, untouched: Bytes) -> None:
    calls, reached = random.Random(2), [0]
    while True:
        code, said = place.train(trap(DISK, calls.randint(10, 90)))
        reached += [int(line.split()[-1]) for line in said if "going on from step" in line]
        if code == 0:
            break
        assert code == -SIGKILL
        assert not any("damaged" in line for line in said)
    assert len(set(reached)) > 3  # as many kills, with progress between them
    assert reached == sorted(reached)
    assert place.outputs() == untouched


def test_killed_while_it_writes_the_model_and_clears_up(place: Place, untouched: Bytes) -> None:
    assert place.train(trap(WRITE, 1))[0] == -SIGKILL
    for call in range(6, 46, 4):
        code, said = place.train(trap(DISK, call))
        assert code in (0, -SIGKILL)
        assert not any("damaged" in line for line in said)
        if code == 0:
            break
    place.finish()
    assert place.outputs() == untouched


def test_the_last_state_of_a_killed_training_is_that_of_an_undisturbed_one(place: Place, interrupted: Place) -> None:
    """Weights, both optimizers and the best weights so far, bit for bit; facts but for times."""
    assert place.train(trap(WRITE, 1))[0] == -SIGKILL
    assert interrupted.train(trap(WRITE, 1))[0] == -SIGKILL
    assert place.newest("safetensors").read_bytes() == interrupted.newest("safetensors").read_bytes()
    one, other = (json.loads(each.newest("json").read_text())["facts"] for each in (place, interrupted))
    for facts in (one, other):
        del facts["seconds"], facts["matrix_rate"], facts["trainer"]["seconds"], facts["journal"]["speeds"]
    assert one["trainer"]["step"] == STEPS
    assert repr(one) == repr(other)  # repr: a NaN is equal to itself


def test_the_best_weights_survive_when_none_better_follow(place: Place) -> None:
    place.edit(lambda values: values["models"][MODEL].update(learning_rate=2.0))
    place.finish()
    undisturbed = place.outputs()
    assert json.loads(undisturbed["checkpoint/meta.json"])["best_step"] < 10
    assert place.train(trap(STEP, 11))[0] == -SIGKILL
    assert place.finish() == [f"{MODEL}: going on from step 10"]
    assert place.outputs() == undisturbed


@pytest.mark.parametrize(("number", "code"), [(SIGTERM, 143), (SIGINT, 130)])
@pytest.mark.parametrize(
    ("at", "call", "stops_at"),
    [(STEP, 13, 13), (EVALUATION, 3, 16), (EVALUATION, 1, 0), (SAMPLE, 2, 9)],
    ids=["step", "evaluation", "first evaluation", "sample"],
)
def test_a_request_to_stop_is_obeyed_at_a_step_boundary(
    place: Place, untouched: Bytes, number: signal.Signals, code: int, at: str, call: int, stops_at: int
) -> None:
    """Here nothing else saves states: that is what the request is for."""
    place.save_every(1000.0)
    line = f"stopped at step {stops_at} by {number.name}: run the same command again to go on from there"
    assert place.train(trap(at, call, number)) == (code, [line])
    assert place.newest("json").name == f"step-{stops_at:08d}.json"
    assert not (place.root / "models").exists()
    assert place.finish() == [f"{MODEL}: going on from step {stops_at}"]
    assert place.outputs() == untouched


def test_a_request_that_comes_during_a_save_or_too_late_does_no_harm(place: Place, untouched: Bytes) -> None:
    code, said = place.train(trap(SAVE, 7, SIGTERM))
    assert (code, said[0].split(" by ")[0]) == (143, "stopped at step 8")
    assert place.train(trap(WRITE, 1, SIGTERM)) == (0, [f"{MODEL}: going on from step 8"])
    assert place.outputs() == untouched


def test_under_dvc_a_stopped_training_counts_as_failed_and_goes_on(
    project: Path, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("dvc")
    shutil.copytree(project, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("models", ".resume"))
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    for each, seconds in ((place, 1000.0), (Place(place.server, root), 0.1)):
        each.edit(lambda values: values["models"][MODEL].update(steps=300, evaluate_every=100))
        each.save_every(seconds)
    place.finish()
    command = ["dvc", "repro", "--single-item", f"train@{MODEL}"]
    with subprocess.Popen(command, cwd=root, env=clean_environment(), stderr=subprocess.PIPE, text=True) as repro:
        wait_for(root, "step-*.json")
        (holder,) = (root / ".resume").glob("*.holder.json")
        os.kill(json.loads(holder.read_text())["pid"], SIGTERM)
        _, said = repro.communicate(timeout=100)
    assert repro.returncode
    assert "exited with 143" in said
    assert not (root / "dvc.lock").exists()
    assert not (root / "models" / MODEL / "history.csv").exists()
    again = run(root, *command)
    assert again.returncode == 0, again.stderr
    assert f"{MODEL}: going on from step" in again.stderr
    assert f"train@{MODEL}" in (root / "dvc.lock").read_text()
    assert outputs(root) == place.outputs()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-100] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize(("kind", "damage"), [("safetensors", cut), ("safetensors", flip), ("json", cut)])
def test_a_damaged_state_is_named_and_the_one_before_counts(
    interrupted: Place, untouched: Bytes, kind: str, damage: Callable[[Path], None]
) -> None:
    newest = interrupted.newest(kind)
    damage(newest)
    warning, going_on = interrupted.finish()
    assert warning.startswith(f"{newest.relative_to(interrupted.root)} is damaged")
    assert warning.endswith(f"; going on from step {INTERRUPTED - 1}")
    assert going_on == f"{MODEL}: going on from step {INTERRUPTED - 1}"
    assert interrupted.outputs() == untouched


def test_when_all_states_are_damaged_it_begins_again(interrupted: Place, untouched: Bytes) -> None:
    for path in (interrupted.root / ".resume").glob("*/step-*.safetensors"):
        cut(path)
    warnings = interrupted.finish()
    assert [line.rpartition("; ")[2] for line in warnings] == ["starting from the beginning"] * 2
    assert interrupted.outputs() == untouched


def test_a_full_disk_is_one_line_and_the_earlier_states_stay(interrupted: Place, untouched: Bytes) -> None:
    before = interrupted.saved()
    code, said = interrupted.train(largest_file=4_000)  # room for names and places, not for weights
    assert code == 2
    assert said[0] == f"{MODEL}: going on from step {INTERRUPTED}"
    assert [line.partition(" on the disk")[0] for line in said[1:]] == ["error: no room left"]
    assert interrupted.saved() == before
    interrupted.finish()
    assert interrupted.outputs() == untouched


def test_a_disk_that_was_full_from_the_beginning(place: Place, untouched: Bytes) -> None:
    code, said = place.train(largest_file=4_000)
    assert (code, len(said)) == (2, 1)
    assert said[0].startswith("error: no room left on the disk")
    assert [Path(name).name for name in place.saved()] == ["identity.json"]
    place.finish()
    assert place.outputs() == untouched


def test_of_two_trainers_the_second_gives_way_until_the_first_is_dead(place: Place, untouched: Bytes) -> None:
    first = place.start(trap(STEP, 10, SIGSTOP))
    wait_until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED)  # its save is over
    before = place.saved()
    code, said = place.train()
    assert (code, len(said)) == (2, 1)
    assert said[0].startswith(f"error: another process (pid {first.pid} on ")
    assert place.saved() == before
    os.kill(first.pid, SIGKILL)
    assert first.end() == (-SIGKILL, [])
    assert place.finish() == [f"{MODEL}: going on from step 9"]
    assert place.outputs() == untouched


def change_data(place: Place) -> None:
    path = place.root / "data" / "tokens" / "char" / "train.npy"
    ids = np.load(path)
    ids[100] = ids[101]
    np.save(path, ids)


CHANGES: dict[str, tuple[str, Callable[[Place], None]]] = {
    "learning rate": (
        "muon_learning_rate 0.02 -> 0.01",
        lambda place: place.edit(lambda values: values["models"][MODEL].update(muon_learning_rate=0.01)),
    ),
    "data": ("data train.npy", change_data),
    "timeline": (  # or timeline.md would be a mixture that no parameters give
        "temperature 0.7 -> 0.5",
        lambda place: place.edit(lambda values: values["timeline"].update(temperature=0.5)),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_training_is_named_and_left_alone(interrupted: Place, place: Place, change: str) -> None:
    names, make = CHANGES[change]
    make(interrupted)
    make(place)
    place.save_every(1000.0)
    before = interrupted.saved()
    code, (said,) = interrupted.train()
    assert code == 0
    assert f"an unfinished training of {MODEL} exists with other values ({names}): it is left alone" in said
    assert interrupted.saved() == before
    assert place.finish() == []
    assert interrupted.outputs() == place.outputs()


def test_what_does_not_touch_the_outputs_may_change(interrupted: Place, untouched: Bytes) -> None:
    def change(values: dict[str, Any]) -> None:
        values["resume"] = {"save_every_seconds": 30.0, "keep": 1}
        values["samples"]["max_new_tokens"] = 7
        values["device"] = "cpu"
        values["models"]["another"] = values["models"][MODEL]

    interrupted.edit(change)
    assert interrupted.finish() == [f"{MODEL}: going on from step {INTERRUPTED}"]
    assert interrupted.outputs() == untouched


def test_after_a_success_nothing_is_left_and_the_next_run_trains_afresh(place: Place, untouched: Bytes) -> None:
    place.save_every(1000.0)
    place.finish()
    assert place.outputs() == untouched
    assert {path.suffix for path in (place.root / ".resume").iterdir()} == {".lock"}
    assert {path.name for path in (place.root / "models" / MODEL).iterdir()} == {
        *(name.partition("/")[0] for name in OUTPUTS),
        "training.json",
    }
    assert place.train(trap(STEP, STEPS)) == (-SIGKILL, [])  # it took all the steps but the last
    place.finish()
    assert place.outputs() == untouched
