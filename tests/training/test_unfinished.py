"""Unfinished trainings side by side: one trainer each, and what is said of another training of the same model."""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gptmodel import files
from gptmodel.errors import UserError
from gptmodel.training import saved_states
from gptmodel.training.saved_states import Store
from tests.support.states import listing, store

pytestmark = pytest.mark.slow

needs_posix = pytest.mark.skipif(os.name != "posix", reason="kills processes")

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
    monkeypatch.setattr(files, "write_json", lambda path, value: seen.append(path.exists()))
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
