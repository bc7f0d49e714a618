"""A training that meets damaged states, a full disk, another trainer or other parameters ends as it should.

Every training here is the stage itself, in a process of its own; kills are SIGKILL.
"""

import os
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import numpy as np
import psutil
import pytest

from tests.support.places import INTERRUPTED, OUTPUTS, STEP, STEPS, Bytes, Place, trap, wait_until
from tests.support.stage import MODEL

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.name != "posix", reason="kills processes")]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-100] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_state_is_named_and_the_one_before_counts(
    interrupted: Place, untouched: Bytes, damage: Callable[[Path], None]
) -> None:
    newest = interrupted.newest()
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
    assert list((place.root / ".resume").iterdir()) == []
    assert [path.name for path in (place.root / "models" / MODEL).iterdir()] == ["training"]
    assert {path.name for path in (place.root / "models" / MODEL / "training").iterdir()} == {
        *(name.partition("/")[0] for name in OUTPUTS),
        "speed.json",
    }
    assert place.train(trap(STEP, STEPS)) == (-SIGKILL, [])  # it took all the steps but the last
    place.finish()
    assert place.outputs() == untouched
