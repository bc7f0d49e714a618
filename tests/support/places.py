"""Folders in which the stage `train` runs for tests, in a process of its own (see tests/support/stage.py)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

import yaml

from tests.support.closure import ROOT
from tests.support.stage import MODEL, Trap

OUTPUTS = ["checkpoint/meta.json", "checkpoint/model.safetensors", "history.csv", "timeline.json", "timeline.md"]
STEPS, EVALUATE_EVERY = 24, 8
STEP, EVALUATION = "gptmodel.training.trainer:Trainer._advance", "gptmodel.training.trainer:total_nats"
SAMPLE, WRITE = "gptmodel.training.history:History._sample", "gptmodel.training.history:History.write"
SAVE = "gptmodel.training.saved_states:Store.save"
DISK = ["os:fsync", "os:replace", "os:unlink", "pathlib:Path.write_bytes"]  # every call of a save that changes the disk
INTERRUPTED = 14  # the step of the newest state in `interrupted`

Bytes = dict[str, bytes]


def edit_params(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change params.yaml of a folder."""
    path = root / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")


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
        edit_params(self.root, change)

    def save_every(self, seconds: float) -> None:
        self.edit(lambda values: values["resume"].update(save_every_seconds=seconds))

    def outputs(self) -> Bytes:
        return outputs(self.root)

    def saved(self) -> Bytes:
        """Return all files of unfinished trainings."""
        paths = sorted(path for path in (self.root / ".resume").rglob("*") if path.parent.name != ".resume")
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}

    def newest(self) -> Path:
        """Return the file of the newest saved state."""
        return max((self.root / ".resume").glob("*/step-*.safetensors"))


def outputs(root: Path) -> Bytes:
    return {name: (root / "models" / MODEL / "training" / name).read_bytes() for name in OUTPUTS}


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
    values["timeline"].update(prompt="Le phare ", max_new_tokens=5)


def fresh(project: Path, server: Server, root: Path) -> Place:
    """Return a place without a training so far."""
    shutil.copytree(project / "data", root / "data")
    shutil.copy(project / "params.yaml", root)
    return Place(server, root)


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
