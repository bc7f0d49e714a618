"""The failing disk of the campaign tells the truth: the kernel sees the same calls, and its refusals end alike."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptmodel import files
from tests.support.closure import ROOT
from tests.support.places import clean_environment, edit_params, tiny

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]
CALLS = "openat,write,fsync,rename,renameat2,mkdir,unlink,unlinkat,rmdir"
SHIM = """
import json, sys
from pathlib import Path
from pipelines import clean
from tests.support.disk import Disk
disk = Disk(Path.cwd())
disk.install()
clean.main()
json.dump([[call.kind, call.path] for call in disk.calls], sys.stderr)
"""
Call = tuple[str, str]


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stages fetch and clean have run."""
    place = tmp_path_factory.mktemp("cleaned")
    (place / "data" / "own").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", place / "data")
    shutil.copy(ROOT / "tests" / "fixtures" / "roman.txt", place / "data" / "own")
    shutil.copy(ROOT / "params.yaml", place)
    edit_params(place, tiny)
    for stage in ("fetch", "clean"):
        assert run(place, "-m", f"pipelines.{stage}").returncode == 0
    return place


@pytest.fixture
def place(cleaned: Path, tmp_path: Path) -> Path:
    """A copy of `cleaned`."""
    return shutil.copytree(cleaned, tmp_path.resolve() / "place")


def run(place: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [*before, sys.executable, *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def traced(place: Path, *inject: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the stage clean under strace; return what it did and the lines of the trace."""
    trace = place.with_name("trace")
    options = ("-f", "-y", "-s", "1", "-e", f"trace={CALLS}", "-e", "signal=none", *inject)
    done = run(place, "-m", "pipelines.clean", before=("strace", *options, "-o", str(trace)))
    return done, trace.read_text(encoding="utf-8").splitlines()


def calls(place: Path, lines: list[str]) -> Iterator[Call]:
    """Return the calls of a trace that change something below a folder, as the campaign's disk names them."""
    made = set[str]()
    for line in lines:
        name, _, rest = line.partition(" ")[2].strip().partition("(")
        paths = [place / each for each in re.findall(r'"([^"]*)"', rest)] if name != "write" else []
        if found := re.match(r"\d+<([^>]*)>", rest):  # of a descriptor, or of a folder and a name in it
            paths = [
                Path(found[1]) / (re.findall(r'"([^"]*)"', rest) or [""])[0] if name == "unlinkat" else Path(found[1])
            ]
        if not paths or not paths[-1].is_relative_to(place):
            continue
        path = str(paths[-1].relative_to(place))
        if name == "openat":
            if "O_CREAT" not in rest:
                continue
            kind = "truncate" if path in made else "create"
            made.add(path)
        else:
            kind = {"renameat2": "exchange", "unlinkat": "rmdir" if "REMOVEDIR" in rest else "unlink"}.get(name, name)
        yield kind, path


def finals(found: Iterator[Call] | list[Call]) -> list[Call]:
    """Return calls with the names that temporary files will have; files of one folder are removed in any order."""
    named = [(kind, files.final(Path(path)).as_posix()) for kind, path in found]
    kept = [call for call in named if call[0] not in ("unlink", "rmdir")]
    return kept + sorted(call for call in named if call[0] in ("unlink", "rmdir"))


def test_the_kernel_sees_the_calls_that_the_campaign_counts(place: Path) -> None:
    done, lines = traced(place)
    assert done.returncode == 0
    counted = run(place, "-c", SHIM)
    assert counted.returncode == 0, counted.stderr
    shim = [(kind, path) for kind, path in json.loads(counted.stderr.splitlines()[-1])]
    kernel = finals(calls(place, lines))
    assert len(kernel) > 40
    assert kernel == finals(shim)


@pytest.mark.parametrize(
    ("call", "error", "when"),
    [
        ("fsync", "ENOSPC", 4),
        ("renameat2", "EIO", 1),
        ("unlinkat", "", 2),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in [
                ("fsync", "EIO", 1),
                ("fsync", "EIO", 9),
                ("fsync", "", 5),
                ("renameat2", "ENOSPC", 1),
                ("renameat2", "", 1),
                ("mkdir", "ENOSPC", 1),
                ("mkdir", "EIO", 2),
                ("mkdir", "ENOSPC", 3),
                ("unlinkat", "EIO", 3),
            ]
        ),
    ],
)
def test_a_refusal_or_a_kill_by_the_kernel_loses_nothing(place: Path, call: str, error: str, when: int) -> None:
    before = tree(place)
    for path in (place / "data" / "clean").rglob("*.*"):
        path.write_text("old")
    old = tree(place)
    fault = f"error={error}" if error else "signal=KILL"
    done, lines = traced(place, "-e", f"inject={call}:{fault}:when={when}")
    assert error == "" or any("INJECTED" in line for line in lines)
    found = {name: content for name, content in tree(place).items() if ".partial/" not in name}
    assert found in (old, before)
    if not error:
        assert done.returncode == -9
    elif found == old:
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "data/clean" in done.stderr
    else:  # a folder that was there need not be made, and what is not removed now is removed next time
        assert done.returncode == 0
        assert call in ("mkdir", "unlinkat")
    assert run(place, "-m", "pipelines.clean").returncode == 0
    assert tree(place) == before


def tree(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
