"""The runtime as a stranger gets it: a wheel with `[cpu]` in a new environment, a bundle copied somewhere."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import bundles as small
from tests.support.closure import ROOT

pytestmark = [pytest.mark.network, pytest.mark.slow]


def run(*command: object, cwd: Path) -> str:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=True).stdout


def test_a_wheel_with_the_base_install_and_cpu_generates_text(tmp_path: Path) -> None:
    words = small.char_tokenizer()
    small.write(tmp_path / "bundle", small.random_network("modern", words), words)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", tmp_path / "source" / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, tmp_path / "source", cwd=tmp_path)
    (wheel,) = tmp_path.glob("gptmodel-*.whl")
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[cpu]", cwd=tmp_path)

    installed = {
        package["name"] for package in json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    }
    assert not installed & {"torch", "dvc", "mlflow", "pandas", "onnx", "onnxruntime-gpu", "matplotlib"}
    command = [python.parent / "gptmodel", "generate", "bundle", "— Où ", "--seed", 1, "--max-new-tokens", 40]
    first, again = (run(*command, cwd=tmp_path) for _ in range(2))
    assert first == again
    assert len(first) > 30
