"""States of unfinished trainings: what was saved comes back bit for bit, or it is named as damaged."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save as serialize

from gptmodel.training.saved_states import Store
from tests.support.states import FACTS, listing, names, same, saved, store, tensors

pytestmark = pytest.mark.slow

needs_posix = pytest.mark.skipif(os.name != "posix", reason="kills processes")


def test_what_is_loaded_is_what_was_saved_bit_for_bit(tmp_path: Path) -> None:
    states, warnings = saved(tmp_path, 1200)
    state = states.load()
    assert same(state, 1200)
    assert state is not None
    assert all(tensor.data_ptr() % 64 == 0 for tensor in state.tensors.values())  # as torch allocates
    assert state.tensors["weight"].add_(1).data_ptr() != state.tensors["tied"].data_ptr()
    assert not warnings


@given(values=st.lists(st.floats(width=64), max_size=6), words=st.dictionaries(st.text(), st.text(), max_size=3))
@settings(max_examples=15, deadline=None)
def test_any_float_and_any_word_survives(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], words: dict[str, str]
) -> None:
    states = Store(tmp_path_factory.mktemp("any") / "print", 1, lambda line: pytest.fail(line))
    states.save(1, {"x": torch.tensor(values, dtype=torch.float64)}, {"values": values, "words": words})
    state = states.load()
    assert state is not None
    assert repr(state.facts) == repr({"values": values, "words": words})
    assert repr(state.tensors["x"].tolist()) == repr(values)


def test_the_same_state_has_the_same_bytes(tmp_path: Path) -> None:
    for place in ("one", "two"):
        saved(tmp_path / place, 7)
    [name] = names(7)
    assert (tmp_path / "one/print" / name).read_bytes() == (tmp_path / "two/print" / name).read_bytes()


def test_a_state_is_an_ordinary_safetensors_file(tmp_path: Path) -> None:
    """Whoever looks for what a training holds can open it without this project."""
    states, _ = saved(tmp_path, 7)
    with safe_open(states.folder / names(7)[0], "pt") as file:
        assert set(file.keys()) == tensors(7).keys()
        assert '"step": 7' in file.metadata()["state"]


def test_the_newest_states_stay_and_litter_goes(tmp_path: Path) -> None:
    states, _ = saved(tmp_path, 1, 2, 3)
    assert listing(states.folder) == names(2, 3)
    (states.folder / ".step-00000004.safetensors.1.partial").write_text("half")
    assert same(states.load(), 3)
    states.save(99_999_999, tensors(99_999_999), FACTS)
    states.save(100_000_000, tensors(100_000_000), FACTS)  # by number, not by name
    assert listing(states.folder) == names(99_999_999, 100_000_000)
    assert same(states.load(), 100_000_000)
    with pytest.raises(ValueError, match="keep"):
        store(tmp_path, keep=0)


def test_a_new_place_holds_nothing_and_a_discarded_one_neither(tmp_path: Path) -> None:
    states, warnings = store(tmp_path)
    assert states.load() is None
    states.discard()
    with states.held():
        states.describe({"name": "gpt-char"})
        states.save(1, tensors(1), FACTS)
        states.discard()
        assert states.load() is None
    assert listing(tmp_path) == []
    assert not warnings


def resealed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return a damage that a hash does not show: another record, saved with a hash of its own."""

    def damage(path: Path) -> None:
        with safe_open(path, "pt") as file:
            record = json.loads(file.metadata()["state"].partition(" ")[2])
        change(record)
        data = serialize({"x": torch.ones(1)}, {"state": f"{64 * '0'} {json.dumps(record)}"})
        place = data.index(64 * b"0")
        path.write_bytes(data[:place] + hashlib.sha256(data).hexdigest().encode() + data[place + 64 :])

    return damage


def rewritten(header: object) -> Callable[[Path], None]:
    """Return a damage that gives the file a header of its own."""
    text = json.dumps(header).encode()
    return lambda path: path.write_bytes(len(text).to_bytes(8, "little") + text)  # type: ignore[return-value]


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in the header": lambda path: os.truncate(path, 100),
    "cut in the tensors": lambda path: os.truncate(path, path.stat().st_size - 1),
    "changed": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"),
    "not text": lambda path: path.write_bytes(8 * b"\xff" + b"\xff\xfe\xff"),
    "not safetensors": lambda path: path.write_bytes(b"abc"),
    "no header": rewritten(["x"]),
    "no metadata": rewritten({}),
    "no state": rewritten({"__metadata__": {"format": "pt"}}),
    "no text": rewritten({"__metadata__": {"state": 1}}),
    "no hash": rewritten({"__metadata__": {"state": ""}}),
    "a field missing": resealed(lambda record: record.pop("facts")),
    "other format": resealed(lambda record: record.update(format_version=3)),
    "another step's": resealed(lambda record: record.update(step=2)),
    "renamed": lambda path: path.write_bytes((path.parent / names(2)[0]).read_bytes()),
    "a link to nothing": link_to_nothing,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_state_is_named_and_the_one_before_is_used(tmp_path: Path, kind: str) -> None:
    states, warnings = saved(tmp_path, 2, 3)
    DAMAGE[kind](states.folder / names(3)[0])
    assert same(states.load(), 2)
    assert len(warnings) == 1
    assert f"{names(3)[0]} is damaged" in warnings[0]
    assert warnings[0].endswith("going on from step 2")
    assert "\n" not in warnings[0]


def test_no_single_changed_byte_is_ever_believed(tmp_path: Path) -> None:
    states, warnings = saved(tmp_path, 3)
    path = states.folder / names(3)[0]
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert states.load() is None
    assert len(warnings) == len(whole) > 1000
    path.write_bytes(whole)
    assert same(states.load(), 3)


def test_no_cut_and_no_addition_is_ever_believed(tmp_path: Path) -> None:
    states, _ = saved(tmp_path, 3)
    path = states.folder / names(3)[0]
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        assert states.load() is None
    path.write_bytes(whole + b"0")
    assert states.load() is None


def test_when_all_are_damaged_it_starts_again_and_the_next_save_is_the_newest(tmp_path: Path) -> None:
    states, warnings = saved(tmp_path, 2, 3)
    for step in (2, 3):
        os.truncate(states.folder / f"step-{step:08d}.safetensors", 9)
    assert states.load() is None
    assert [line.endswith("starting from the beginning") for line in warnings] == [True, True]
    states.save(1, tensors(1), FACTS)  # before the damaged ones
    assert listing(states.folder) == names(1)
    assert same(states.load(), 1)


KILL_EVERYWHERE = """
import json, os, signal, sys
from pathlib import Path
from tests.support.states import FACTS, same, saved, tensors

def count_down(calls, before):
    # Kill this process at the calls-th call that touches the disk, before or after it.
    def wrap(owner, name):
        real = getattr(owner, name)
        def wrapped(*arguments, **named):
            nonlocal calls
            calls -= 1
            mine = calls == 0  # a wrapped call may make other wrapped calls
            if mine and before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **named)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        setattr(owner, name, wrapped)
    for owner, name in [(os, "fsync"), (os, "replace"), (Path, "replace"), (Path, "unlink"), (Path, "write_bytes"),
                        (Path, "write_text")]:
        wrap(owner, name)

for before in (True, False):
    for calls in range(1, 100):
        place = Path(sys.argv[1]) / f"{before}-{calls}"
        states, warnings = saved(place, 1, 2)
        child = os.fork()
        if child == 0:
            count_down(calls, before)
            {ACTION}
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        state = states.load()
        found = state.step if state else None
        right = state is None or same(state, found)
        states.save(4, tensors(4), FACTS)
        after = sorted(path.name for path in states.folder.iterdir())
        print(json.dumps([before, killed, found, right, warnings, after]), flush=True)
        if not killed:
            break
"""


def killed_everywhere(tmp_path: Path, action: str) -> list[Any]:
    """Run `action` once for each of its calls that touch the disk, killed there; return what was found afterwards."""
    command = [sys.executable, "-c", KILL_EVERYWHERE.replace("{ACTION}", action), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@needs_posix
def test_a_save_killed_anywhere_leaves_a_whole_state(tmp_path: Path) -> None:
    rows = killed_everywhere(tmp_path, "states.save(3, tensors(3), FACTS)")
    assert sum(killed for _, killed, *_ in rows) == 12  # before and after each of 6 calls
    assert all(right and not warnings for *_, right, warnings, _ in rows)
    for before in (True, False):
        found = [row[2] for row in rows if row[0] == before]
        assert found == sorted(found)  # 2 up to the moment that the file has its name, 3 from then on
        assert set(found) == {2, 3}
    for *_, found, _, _, after in rows:
        assert after == names(found, 4)


@needs_posix
def test_a_discard_killed_anywhere_leaves_the_newest_state_or_nothing(tmp_path: Path) -> None:
    rows = killed_everywhere(tmp_path, "states.discard()")
    assert all(right and not warnings for *_, right, warnings, _ in rows)
    assert {row[2] for row in rows} == {2, None}


def test_a_full_disk_leaves_the_earlier_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states, warnings = saved(tmp_path, 1, 2)
    before = {name: (states.folder / name).read_bytes() for name in names(1, 2)}

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            states.save(3, tensors(3), FACTS)
    assert all((states.folder / name).read_bytes() == content for name, content in before.items())
    assert same(states.load(), 2)
    states.save(3, tensors(3), FACTS)
    assert listing(states.folder) == names(2, 3)
    assert not warnings


@needs_posix
def test_the_kernel_refuses_more_bytes_and_the_earlier_states_stay(tmp_path: Path) -> None:
    """A limit on the size of files, as a full disk would: the error is one line, exit code 2."""
    states, _ = saved(tmp_path, 1)
    code = (
        "import resource, sys, torch; from pathlib import Path; from gptmodel import errors\n"
        "from gptmodel.training import saved_states\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "states = saved_states.Store(Path(sys.argv[1]), 1, print)\n"
        "with errors.one_line_errors(): states.save(2, {'x': torch.ones(9999)}, {})"
    )
    command = [sys.executable, "-c", code, str(states.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: no room left on the disk")
    assert listing(states.folder) == names(1)
    assert same(states.load(), 1)
