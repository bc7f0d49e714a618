"""What every benchmark records beside its figures: the machine, the versions, the day, the commit."""

import datetime
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gptmodel import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides the speed of matrix products


def environment(*packages: str, **hardware: Any) -> dict[str, Any]:
    """Return the conditions of this run; `hardware` is what the benchmark adds to processor and cores."""
    git = [
        shutil.which("git") or "false",
        "-C",
        str(ROOT),
        "rev-parse",
        "--short",
        "HEAD",
    ]  # a GPU machine may lack git
    return {
        "hardware": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), **hardware},
        "versions": {
            "python": platform.python_version(),
            **_versions(packages),
        },
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
    }


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that is installed."""
    found = dict[str, str]()
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def processor() -> dict[str, Any]:
    """Return the CPU's name and those of its flags that matter for training."""
    known = machine.processor()
    return {"cpu_model": known.name, "cpu_flags": [flag for flag in TELLING_FLAGS if flag in known.flags]}


def for_older_code(bundle: Path, folder: Path) -> Path:
    """Return a copy of a bundle in `folder` without the key that code from before 0.2.0's `example_prompt` refuses."""
    copy = shutil.copytree(bundle, folder / "bundle")
    described = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    del described["example_prompt"]
    (copy / "bundle.json").write_text(json.dumps(described), encoding="utf-8")
    return copy
