import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import pytest
import torch

from gptmodel.model import devices
from tests.support.closure import ROOT

WAITING = "import os, pipelines; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('KMP_BLOCKTIME'))"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("cores", "variable", "asked", "threads"),
    [
        (1, None, "auto", 1),
        (2, None, "auto", 1),
        (4, None, "auto", 3),
        (4, None, 4, 4),
        (2, None, 3, 3),
        (2, "2", "auto", 2),
        (2, "2", 1, 2),
    ],
)
def test_a_core_stays_free_unless_somebody_says_otherwise(
    cores: int, variable: str | None, asked: Literal["auto"] | int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(devices.VARIABLE)
    if variable:
        monkeypatch.setenv(devices.VARIABLE, variable)
    torch.set_num_threads(cores)
    assert devices.use("cpu", asked).type == "cpu"
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "10000 1"),
        ({"GOMP_SPINCOUNT": "5", "KMP_BLOCKTIME": "0"}, "5 0"),
        ({"OMP_WAIT_POLICY": "passive"}, "None None"),
    ],
)
def test_a_stage_s_threads_wait_briefly_unless_somebody_says_otherwise(given: dict[str, str], found: str) -> None:
    names = {"GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", WAITING], cwd=ROOT, env=inherited | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == found
