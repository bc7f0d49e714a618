"""Laws of data-parallel training: every row once, one training whatever the number of ranks, one failure for all.

The ranks are real: torchrun, gloo, one thread each.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.errors import UserError
from gptmodel.training import distributed
from gptmodel.training.distributed import World
from tests.support.closure import ROOT
from tests.support.ranks import trained

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 60.0  # a hang is a failure


@contextmanager
def ranks(count: int, folder: Path, *scenes: str) -> Iterator[subprocess.Popen[str]]:
    """Start scenes of tests/support/ranks.py in `count` processes; whatever happens, they end."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, distributed.PROCESSES: str(count)}
    command = [sys.executable, "-m", "tests.support.ranks", str(folder), *scenes]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()  # does nothing to a process that has ended


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait until the ranks have ended; return the exit code and what they wrote to standard error."""
    _, told = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, told


def wait_for(*paths: Path) -> None:
    """Wait until other processes have written these files."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(path.exists() and path.read_text(encoding="utf-8") for path in paths):
        assert time.monotonic() < deadline, f"waited in vain for {paths}"
        time.sleep(0.05)


@settings(max_examples=100, deadline=None)
@given(size=st.integers(1, 9), spare=st.integers(0, 40))
def test_the_shares_are_all_the_rows_in_order_and_as_equal_as_can_be(size: int, spare: int) -> None:
    rows = range(size + spare)
    shares = [rows[World(rank, size, rank).rows(len(rows))] for rank in range(size)]
    assert [row for share in shares for row in share] == list(rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert min(map(len, shares)) >= 1


def test_fewer_rows_than_processes_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"batch_size 3 .* number of processes, 4"):
        World(0, 4, 0).rows(3)


def test_alone_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    value = torch.tensor(2.0)
    with distributed.join("cuda") as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert world.total(value) == value
        assert world.broadcast(value) is value
        assert world.rows(5) == slice(0, 5)
        assert (world.any(True), world.any(False)) == (True, False)
        assert not World(0, 1, 0, launcher=-1).is_orphan
        assert world.device(torch.device("cuda")) == torch.device("cuda")


def check_work(count: int, folder: Path) -> None:
    """Compare what each rank saw with what it should, and its training with that of one process."""
    every = range(count)
    for rank in every:
        seen = json.loads((folder / f"{rank}.json").read_text(encoding="utf-8"))
        assert seen == {
            "world": [rank, count, rank],
            "gradients": [[count, sum(every)], [count / 2, sum(every)], [3, 4]],
            "total": [count, sum(every)],
            "unchanged": [1, rank],
            "nobody": False,
            "last rank": True,
            "received": [[0, 1, 2], 7],
            "device": f"cuda:{rank}",
            "threads": "1",
        }
    weights = [np.load(folder / f"{rank}.npy") for rank in every]
    assert all(other.tobytes() == weights[0].tobytes() for other in weights[1:])
    alone = trained(World(0, 1, 0))
    assert np.abs(weights[0] - alone).max() < 1e-10
    assert alone[-1] < 2  # nats; a guess costs log(11) = 2.4


def test_two_ranks_train_like_one_and_stop_together_when_one_is_told_to(tmp_path: Path) -> None:
    with ranks(2, tmp_path, "work", "stop") as process:
        wait_for(tmp_path / "0.pid", tmp_path / "1.pid")
        os.kill(int((tmp_path / "1.pid").read_text(encoding="utf-8")), SIGTERM)
        assert outcome(process) == (143, "stopped: run the same command again\n")
    assert (tmp_path / "0.step").read_bytes() == (tmp_path / "1.step").read_bytes()
    check_work(2, tmp_path)


def test_four_ranks_train_like_one_and_tell_an_error_of_all_once(tmp_path: Path) -> None:
    with ranks(4, tmp_path, "work", "too few rows") as process:
        code, told = outcome(process)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith("error: batch_size 3 is smaller than the number of processes, 4")
    check_work(4, tmp_path)


def test_an_error_of_one_rank_ends_the_others_and_is_told_once(tmp_path: Path) -> None:
    with ranks(2, tmp_path, "rank 1 fails") as process:
        assert outcome(process) == (2, "error: a value is wrong: mend it\n")


def test_a_killed_rank_ends_the_others_and_is_named(tmp_path: Path) -> None:
    with ranks(2, tmp_path, "rank 1 is killed") as process:
        code, told = outcome(process)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith("error: process 1 was ended by SIGKILL")


@pytest.mark.parametrize(("signal", "code"), [(SIGTERM, 143), (SIGKILL, -SIGKILL)])
def test_a_stopped_or_killed_launcher_stops_the_ranks_at_the_same_step(signal: int, code: int, tmp_path: Path) -> None:
    with ranks(2, tmp_path, "stop") as process:
        wait_for(tmp_path / "0.pid", tmp_path / "1.pid")
        process.send_signal(signal)
        assert outcome(process) == (code, "stopped: run the same command again\n")
    wait_for(tmp_path / "0.step", tmp_path / "1.step")
    assert (tmp_path / "0.step").read_bytes() == (tmp_path / "1.step").read_bytes()


@pytest.mark.parametrize("value", ["two", "0", "-1", "1.5", ""])
def test_a_senseless_number_of_processes_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv(distributed.PROCESSES, value)
    with pytest.raises(UserError, match=rf"GPTMODEL_PROCESSES={value} is no whole number"):
        distributed.relaunch("tests.support.ranks")


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_ranks_without_a_device_of_their_own_are_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "99", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "99"}.items():
        monkeypatch.setenv(name, value)
    message = "99 processes on a machine with" if device == "cuda" else "mps trains in one process only"
    with pytest.raises(UserError, match=message), distributed.join(device):
        pass
