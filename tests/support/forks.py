"""A stage in a fork of this process, on a disk of which one call fails (see `tests.support.faults`)."""

import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptmodel.training import saved_states
from tests.support.disk import REAL_OPEN, Call, Disk, Fault
from tests.support.stage import MODEL

ARGUMENTS: dict[str, list[str]] = {"fetch": [], "clean": [], "encode": ["char"], "baselines": [], "report": []}


@dataclass(frozen=True)
class Ended:
    """How a stage ended: its exit code (negative: a signal), what it said, the calls it made, the step it had saved."""

    code: int
    said: list[str]
    calls: list[Call]
    saved: int


def run(stage: str, place: Path, at: int = 0, fault: Fault = "SIGKILL") -> Ended:
    """Run a stage in a fork of this process in the folder `place`, where one call may suffer a fault."""
    notes = place.with_name(f"{place.name}-notes")
    shutil.rmtree(notes, ignore_errors=True)
    notes.mkdir()
    child = os.fork()
    if child == 0:
        os._exit(_run_here(stage, place, notes, at, fault))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls = notes / "calls.json"
    saved = notes / "saved"
    return Ended(
        code,
        (notes / "said").read_text(encoding="utf-8").splitlines(),
        [Call(*each) for each in json.loads(calls.read_text())] if calls.exists() else [],
        int(saved.read_text() or 0) if saved.exists() else 0,
    )


def _run_here(stage: str, place: Path, notes: Path, at: int, fault: Fault) -> int:
    os.chdir(place)
    os.dup2(os.open(notes / "said", os.O_WRONLY | os.O_CREAT), 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    sys.argv = [stage, *ARGUMENTS.get(stage, [MODEL])]
    _note_saves(notes / "saved")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for what runs in the background
    disk = Disk(Path.cwd(), at, fault, notes / "aftermath")
    code = 1
    try:
        disk.install()
        importlib.import_module(f"pipelines.{stage}").main()
        code = 0
        disk.end()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    if not at:
        with REAL_OPEN(notes / "calls.json", "w") as file:
            json.dump([(call.kind, call.path) for call in disk.calls], file)
    return code


def _note_saves(path: Path) -> None:
    """Note the newest step whose save has ended, until the training clears up."""
    save, discard = saved_states.Store.save, saved_states.Store.discard

    def noted_save(self: saved_states.Store, step: int, *state: Any) -> None:
        save(self, step, *state)
        with REAL_OPEN(path, "w") as file:
            file.write(str(step))

    def noted_discard(self: saved_states.Store) -> None:
        path.open("w").close()
        discard(self)

    saved_states.Store.save = noted_save  # type: ignore[method-assign,assignment]
    saved_states.Store.discard = noted_discard  # type: ignore[method-assign]
