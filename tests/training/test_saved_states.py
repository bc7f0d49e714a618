"""States of unfinished trainings: what was saved comes back bit for bit, or it is named as damaged."""

import errno
import hashlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from gptmodel.errors import UserError
from gptmodel.training import saved_states
from gptmodel.training.saved_states import State, Store

needs_posix = pytest.mark.skipif(os.name != "posix", reason="kills processes")
FACTS = {"history": [{"step": 0, "loss": math.nan, "rate": 0.1 + 0.2}, {"step": 5, "loss": 1e-310, "rate": -0.0}]}


def tensors(step: int) -> dict[str, Tensor]:
    """Every dtype in use, shapes from scalar to empty, a transposed view, two names of one memory, odd bit patterns."""
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
    return {
        "weight": weight,
        "tied": weight,
        "row": weight[1],
        "transposed": weight.T,
        "momentum": weight.to(torch.bfloat16),
        "double": weight.double() / 3,
        "step": torch.tensor(step, dtype=torch.int64),
        "scalar": torch.tensor(0.1),
        "odd": torch.tensor([math.nan, -0.0, math.inf, 1e-42]),
        "empty": torch.empty(0, 2),
        "generator": torch.Generator().manual_seed(step).get_state(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def same(state: State | None, step: int) -> bool:
    """Return whether `state` is, bit for bit, what was saved at `step`."""
    if state is None or state.step != step or json.dumps(state.facts) != json.dumps(FACTS):
        return False
    expected = tensors(step)
    return state.tensors.keys() == expected.keys() and all(
        (found.dtype, found.shape) == (expected[name].dtype, expected[name].shape)
        and bytes(found.flatten().view(torch.uint8).numpy())
        == bytes(expected[name].detach().contiguous().flatten().view(torch.uint8).numpy())
        for name, found in state.tensors.items()
    )


def store(folder: Path, keep: int = 2) -> tuple[Store, list[str]]:
    warnings: list[str] = []
    return Store(folder / "print", keep, warnings.append), warnings


def saved(folder: Path, *steps: int, keep: int = 2) -> tuple[Store, list[str]]:
    states, warnings = store(folder, keep)
    for step in steps:
        states.save(step, tensors(step), FACTS)
    return states, warnings


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def names(*steps: int) -> list[str]:
    return sorted(f"step-{step:08d}.safetensors" for step in steps)


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
    assert listing(tmp_path) == ["print.lock"]
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
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nowhere")),
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
from tests.training.test_saved_states import FACTS, same, saved, tensors

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
    assert sum(killed for _, killed, *_ in rows) == 14  # before and after each of 7 calls
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


HOLD = """
import sys, time
from pathlib import Path
from gptmodel.training.saved_states import Store
with Store(Path(sys.argv[1]), 1, print).held():
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_trainer(states: Store) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(states.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@needs_posix
def test_one_trainer_at_a_time_even_if_nobody_remembers_the_first(tmp_path: Path) -> None:
    states, _ = store(tmp_path)
    (tmp_path / "print.holder.json").write_text('{"pid": 1, "host": "of a trainer killed long ago"}')
    with another_trainer(states) as first:
        with pytest.raises(UserError) as caught, states.held():
            pytest.fail("two trainers at once")
        assert str(caught.value) == (
            f"another process (pid {first.pid} on {platform.node()}) is already training this model: "
            f"wait for it, or stop it with `kill {first.pid}`"
        )
        assert listing(tmp_path) == ["print.holder.json", "print.lock"]  # the loser took nothing away
        (tmp_path / "print.holder.json").write_text("{")
        with pytest.raises(UserError, match="another process is already training"), states.held():
            pytest.fail("two trainers at once")
        line = resume_with_other_values(states, tmp_path)
        assert "is training gpt-char with other values (lr 1 -> 2) at the same time" in line
        first.send_signal(signal.SIGKILL)
        first.wait()
    with states.held():
        assert json.loads((tmp_path / "print.holder.json").read_text())["pid"] == os.getpid()
    with states.held():
        pass
    assert listing(tmp_path / "print") == ["identity.json"]


def test_a_dead_holders_name_is_gone_before_the_new_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = tmp_path / "print.holder.json"
    holder.write_text('{"pid": 1, "host": "of a trainer killed long ago"}')
    seen = []
    monkeypatch.setattr(saved_states.files, "write_json", lambda path, value: seen.append(path.exists()))
    with store(tmp_path)[0].held():
        assert seen == [False]


def resume_with_other_values(states: Store, root: Path) -> str:
    states.describe({"name": "gpt-char", "lr": 1})
    return saved_states.changed_since(root, "other", {"name": "gpt-char", "lr": 2}) or ""


def identity(name: str = "gpt-char", data: str = "0", **values: Any) -> dict[str, Any]:
    model = {"learning_rate": 0.002, "layers": 4, "heads": 3, "dropout": 0.05, "width": 192, "betas": [0.9, 0.95]}
    return {"name": name, "model": {**model, **values}, "data": {"train.npy": 64 * data}, "seed": 1337}


def unfinished(root: Path, fingerprint: str, of: dict[str, Any], *, age: int = 0) -> Path:
    states = Store(root / fingerprint, 1, print)
    states.describe(of)
    states.save(1, {}, {})
    os.utime(states.folder, (1e9 - age, 1e9 - age))
    return states.folder


def test_an_unfinished_training_with_other_values_is_named_with_what_differs(tmp_path: Path) -> None:
    folder = unfinished(tmp_path, "a", identity())
    line = saved_states.changed_since(tmp_path, "b", identity(data="1", learning_rate=0.004))
    assert line == (
        "an unfinished training of gpt-char exists with other values (learning_rate 0.002 -> 0.004, data train.npy): "
        f"it is left alone, this one starts afresh (delete {folder} if it is not needed)"
    )
    assert "with other code: it is" in (saved_states.changed_since(tmp_path, "b", identity()) or "")
    many = identity(data="1", layers=5, heads=6, dropout=0, width=384, learning_rate=1)
    assert ", heads 3 -> 6, dropout 0.05 -> 0, and 2 more): " in (saved_states.changed_since(tmp_path, "b", many) or "")


def test_only_other_unfinished_trainings_of_the_same_model_count_the_newest_first(tmp_path: Path) -> None:
    assert saved_states.changed_since(tmp_path / "none", "b", identity()) is None
    unfinished(tmp_path, "word", identity("gpt-word"))
    unfinished(tmp_path, "b", identity())
    Store(tmp_path / "nothing-saved", 1, print).describe(identity())
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "identity.json").write_text("[]")
    assert saved_states.changed_since(tmp_path, "b", identity()) is None
    unfinished(tmp_path, "old", identity(layers=1), age=20)
    unfinished(tmp_path, "new", identity(layers=2), age=10)
    assert "(layers 2 -> 4)" in (saved_states.changed_since(tmp_path, "b", identity()) or "")


def test_keys_of_one_name_are_told_apart_and_lists_compared() -> None:
    old = {"muon": {"lr": 0.02}, "adamw": {"lr": 0.003, "betas": [0.9, 0.95]}, "corpus": "hugo", "gone": None}
    new = {"muon": {"lr": 0.03}, "adamw": {"lr": 0.003, "betas": (0.9, 0.99)}, "corpus": "hugo"}
    assert saved_states.differences(old, new) == [
        "muon.lr 0.02 -> 0.03",
        "betas [0.9, 0.95] -> [0.9, 0.99]",
        "gone null -> unset",
    ]


def test_states_lie_in_the_main_repository_whatever_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert saved_states.folder("3f9a") == Path(".resume/3f9a")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert saved_states.folder("3f9a") == saved_states.home() / "3f9a" == tmp_path / ".resume" / "3f9a"
