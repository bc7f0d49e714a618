"""Whatever is killed, stopped, refused or lost with the power, at any call of any stage: nothing is lost for good."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.closure import ROOT
from tests.support.places import clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, forks")]
RECORD = ROOT / "benchmarks" / "results" / "faults.json"
SAMPLE = ["--stages", "fetch,clean,train", "--share", "0.012"]


def campaign(work: Path, record: Path, *arguments: str) -> dict[str, Any]:
    """Run a campaign of faults; return what it found."""
    command = [sys.executable, "-m", "tests.support.faults", "--work", str(work), "--record", str(record), *arguments]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = clean_environment() | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert record.exists(), done.stderr
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return found


def tried(found: dict[str, Any]) -> int:
    return sum(count for row in found["tried"].values() for count in row.values())


@pytest.mark.slow
def test_a_sample_of_faults_is_survived(tmp_path: Path) -> None:
    found = campaign(tmp_path / "work", tmp_path / "faults.json", *SAMPLE)
    assert found["failures"] == []
    assert tried(found) >= 20


@pytest.mark.long
def test_every_fault_is_survived(tmp_path: Path) -> None:
    """Some 5,500 faults; the record is that of docs/reliability.md (`make docs` renews it there)."""
    found = campaign(tmp_path / "work", RECORD)
    assert found["failures"] == []
    assert tried(found) >= 500
