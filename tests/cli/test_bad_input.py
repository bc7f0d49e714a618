"""Bad input of every kind: one line, exit code 2, no traceback (docs/errors.md shows them)."""

import ctypes
import importlib
import os
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from gptmodel.cli import app
from pipelines import clean, encode, fetch
from tests.support import outputs
from tests.support.bad_calls import BUNDLES, OPTIONS
from tests.support.bad_input import Fault
from tests.support.bad_projects import FETCH, MODELS, STAGES
from tests.support.closure import ROOT
from tests.support.places import tiny

CASES = [*OPTIONS, *BUNDLES, *MODELS, *FETCH, *STAGES]
READ_ANYTHING = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what lets root ignore rights


class Capabilities(ctypes.Structure):
    """Two sets of 32 each, as capget(2) gives them."""

    _fields_ = [
        (f"{kind}{half}", ctypes.c_uint32) for half in (0, 1) for kind in ("effective", "permitted", "inherited")
    ]


@contextmanager
def rights_count() -> Iterator[None]:
    """Let rights count for root as for everybody else, in this thread."""
    if os.geteuid():
        yield
        return
    libc, own = ctypes.CDLL(None), Capabilities()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capget(header, ctypes.byref(own)) == 0
    before = own.effective0
    own.effective0 = before & ~READ_ANYTHING
    assert libc.capset(header, ctypes.byref(own)) == 0
    try:
        yield
    finally:
        own.effective0 = before
        assert libc.capset(header, ctypes.byref(own)) == 0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with the model `pairs`, as the stages leave it."""
    root = tmp_path_factory.mktemp("faults") / "project"
    (root / "data" / "own").mkdir(parents=True)
    shutil.copytree(ROOT / "recipes", root / "recipes")
    shutil.copy(ROOT / "data" / "catalog.yaml", root / "data")
    shutil.copy(ROOT / "tests" / "fixtures" / "roman.txt", root / "data" / "own")
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    bigram = values["models"]["bigram-char"]
    tiny(values)
    values["models"] = {"pairs": bigram | {"steps": 2, "evaluate_every": 2, "warmup_steps": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("GPTMODEL_TRACKING", "off")
        Path("params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
        for main, arguments in ((fetch.main, []), (clean.main, []), (encode.main, ["char"])):
            patch.setattr(sys, "argv", ["stage", *arguments])
            main()
        outputs.write_model("pairs")
    return root


def run(command: str) -> None:
    """Run a command line in this process."""
    match shlex.split(command):
        case ["gptmodel", *arguments]:
            sys.argv = ["gptmodel", *arguments]
            app.main()
        case ["python", "-m", module, *arguments] if module.startswith("pipelines."):
            sys.argv = [module.removeprefix("pipelines."), *arguments]
            importlib.import_module(module).main()
        case ["python", "-m", module, *arguments]:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__")
        case ["python", script, *arguments]:
            sys.argv = [script, *arguments]
            runpy.run_path(script, run_name="__main__")


def files() -> dict[Path, int]:
    """Return when each file of the current folder was written."""
    return {path: path.lstat().st_mtime_ns for path in Path().rglob("*") if path.is_symlink() or not path.is_dir()}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("fault", CASES, ids=[f"{fault.command[:60]}: {fault.wrong}" for fault in CASES])
def test_bad_input_is_one_line_and_changes_nothing(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fault: Fault,
) -> None:
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("GPTMODEL_TRACKING", "off")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(sys, "argv", [])
    fault.make()
    before = files()
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended, rights_count():
        run(fault.command)
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert (err, out) == (f"error: {fault.line}\n", "")
    assert files() == before
