"""A tiny model whose stage `train` runs hundreds of times, for several files of tests."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.support.closure import ROOT
from tests.support.places import INTERRUPTED, STEP, Bytes, Place, Server, fresh, outputs, run, tiny, trap
from tests.support.stage import MODEL


@pytest.fixture(scope="session")
def training_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch copy of this repository, ready to train."""
    root = tmp_path_factory.mktemp("session") / "project"
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (root / "data" / "own").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", root / "data")
    shutil.copy(ROOT / "tests" / "fixtures" / "roman.txt", root / "data" / "own")
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    Place(None, root).edit(tiny)  # type: ignore[arg-type]  # nothing is trained yet
    for stage in (["fetch"], ["clean"], ["encode", "char"]):
        done = run(root, "python", "-m", f"pipelines.{stage[0]}", *stage[1:])
        assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="session")
def untouched(training_project: Path, server: Server) -> Bytes:
    """The outputs of one undisturbed `python -m pipelines.train tiny`."""
    done = run(training_project, "python", "-m", "pipelines.train", MODEL)
    assert done.returncode == 0, done.stderr
    return outputs(training_project)


@pytest.fixture(scope="session")
def server(training_project: Path) -> Iterator[Server]:
    server = Server(training_project)
    yield server
    with contextlib.suppress(BrokenPipeError):
        server.process.communicate(timeout=30)


@pytest.fixture
def place(training_project: Path, server: Server, tmp_path: Path) -> Place:
    """A place without a training so far."""
    return fresh(training_project, server, tmp_path / "place")


@pytest.fixture(scope="session")
def killed(training_project: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with a training that was killed when the states of steps 13 and 14 were saved."""
    place = fresh(training_project, server, tmp_path_factory.mktemp("killed"))
    assert place.train(trap(STEP, INTERRUPTED + 1)) == (-SIGKILL, [])
    return place


@pytest.fixture
def interrupted(killed: Place, tmp_path: Path) -> Place:
    """A copy of `killed`."""
    shutil.copytree(killed.root, tmp_path / "interrupted")
    return Place(killed.server, tmp_path / "interrupted")
