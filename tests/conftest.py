"""Fixtures shared by the tests: the French text written for this project, and small networks of every kind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tiny networks: threads that wait for each other cost more than they bring

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import onnxruntime themselves

# What is ignored stays ignored in children, as under `nohup` or in a script's background: Ctrl-C is tested in them.
signal.signal(signal.SIGINT, signal.default_int_handler)

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_in_the_root() -> Iterator[None]:
    """Fail the last test when a test has left something in the repository's root; caches of tools have a dot."""
    root = FIXTURES.parents[1]
    before = set(root.iterdir())
    yield
    left = [path.name for path in set(root.iterdir()) - before if not path.name.startswith(".")]
    assert not left, f"the tests left this in {root}: {left}"


@pytest.fixture(scope="session")
def french() -> str:
    """A few KB of French prose and dialogue."""
    return (FIXTURES / "roman.txt").read_text(encoding="utf-8")
