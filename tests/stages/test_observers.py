"""Observers change no byte of a training: none, a terminal and MLflow, or one that fails at any event.

The trainings that are watched are the stage itself; an observer that fails is handed to the session.
"""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gptmodel import layout, params
from gptmodel.data.dataset import Dataset
from gptmodel.results.training import Point, TimelineEntry
from gptmodel.training import experiment, precision, session
from gptmodel.training.history import Observer
from gptmodel.training.signals import Requests
from gptmodel.training.trainer import ALONE
from tests.support.places import EVALUATE_EVERY, STEPS, Bytes, Place, clean_environment
from tests.support.stage import MODEL

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")]
EVALUATIONS = STEPS // EVALUATE_EVERY + 1


def watched_stage(project: Path, place: Place) -> str:
    """Run the stage with tracking on and a terminal for its standard error; return what was shown there."""
    environment = {key: value for key, value in clean_environment().items() if key != "GPTMODEL_TRACKING"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(project), str(project / "src")]), "TERM": "xterm"}
    ours, terminal = os.openpty()
    command = [sys.executable, "-m", "pipelines.train", MODEL]
    with subprocess.Popen(command, cwd=place.root, env=environment, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal's end
            while some := os.read(ours, 4096):
                shown += some
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


def points(database: Path) -> int:
    """Return how many points of the validation curve an MLflow database holds."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        [(count,)] = connection.execute("select count(*) from metrics where key like '%validation_bits_per_char'")
        return int(count)


def test_a_training_that_is_watched_on_a_terminal_and_in_mlflow(
    training_project: Path, place: Place, untouched: Bytes
) -> None:
    shown = watched_stage(training_project, place)
    assert f"train {MODEL} on cpu, float32" in shown
    assert "\x1b[" in shown  # a bar that moves
    assert points(place.root / "mlflow.db") == EVALUATIONS
    assert place.outputs() == untouched


def test_a_training_whose_store_is_broken_from_the_first_call(
    training_project: Path, place: Place, untouched: Bytes
) -> None:
    (place.root / "mlflow.db").write_bytes(b"no database" * 1000)
    shown = watched_stage(training_project, place)
    assert "mlflow" in shown
    assert "Traceback" not in shown
    assert place.outputs() == untouched


class Listener:
    """An observer that does something at every event."""

    def __init__(self, act: Callable[[str, object], None]) -> None:
        self._act = act

    def began(self, facts: Mapping[str, Any]) -> None:
        self._act("began", facts)

    def evaluated(self, point: Point, tokens_per_second: float) -> None:
        self._act("evaluated", point)

    def sampled(self, entry: TimelineEntry) -> None:
        self._act("sampled", entry)


@pytest.fixture
def observed(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[Observer], Bytes]:
    """Train in this process under the eyes of an observer; return the outputs."""
    monkeypatch.chdir(place.root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setitem(precision.RATE_SIZE, "cpu", 32)  # a figure for speed.json, which takes a second to measure

    def train(observer: Observer) -> Bytes:
        settings = params.load(layout.PARAMS)
        data = Dataset.read(layout.TOKENS / "char")
        described = experiment.describe(MODEL, settings, data, "cpu")
        device = torch.device("cpu")
        with session.held(described, settings.timeline, settings.resume, device, ALONE, Requests()) as training:
            training.run(layout.ModelFolder(MODEL).training, observer)
        return place.outputs()

    return train


@pytest.mark.parametrize("failing", ["began", "evaluated", "sampled"])
@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database is locked"),
        OSError(28, "No space left on device"),
        TypeError("a bug\nof two lines"),
    ],
    ids=["store", "disk", "bug"],
)
def test_an_observer_that_fails_is_named_once_and_not_asked_again(
    error: Exception,
    failing: str,
    observed: Callable[[Observer], Bytes],
    untouched: Bytes,
    capfd: pytest.CaptureFixture[str],
) -> None:
    events: list[str] = []

    def fail(event: str, told: object) -> None:
        events.append(event)
        if event == failing:
            raise error

    assert observed(Listener(fail)) == untouched
    assert events == ["began", "evaluated", "sampled"][: events.index(failing) + 1]
    said = capfd.readouterr().err.splitlines()
    [line] = [line for line in said if "Listener" in line]
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    assert line == f"Listener failed ({reason}): the training goes on unobserved"


def test_an_observer_that_meddles_changes_nothing(observed: Callable[[Observer], Bytes], untouched: Bytes) -> None:
    """It draws random numbers and writes to what it is told."""
    events: list[str] = []

    def meddle(event: str, told: object) -> None:
        events.append(event)
        torch.rand(7)
        np.random.rand(7)
        random.random()
        if isinstance(told, dict):
            told.clear()
        else:
            with pytest.raises(ValueError, match="frozen"):
                told.step = 99  # type: ignore[attr-defined]

    assert observed(Listener(meddle)) == untouched
    assert events == ["began", *["evaluated", "sampled"] * EVALUATIONS]
