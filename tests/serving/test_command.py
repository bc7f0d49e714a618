"""`gptmodel serve` as a command: what it refuses in one line, and what it needs."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptmodel.cli.serve import serve
from gptmodel.errors import UserError
from gptmodel.serving.limits import Limits
from gptmodel.serving.service import Service
from tests.support.bundles import char_tokenizer, random_network, write

pytestmark = pytest.mark.slow

SERVE = ("fastapi", "uvicorn", "prometheus_client")
NOT_FOR_SERVING = ("torch", "onnx", "mlflow", "dvc", "pandas", "yaml", "matplotlib", "safetensors")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = char_tokenizer()
    return write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"max_tokens": 0}, "--max-tokens must be 1 or above, not 0"),
        ({"max_concurrent": 10**8}, "--max-concurrent must be 4,096 or below, not 100000000"),
        ({"max_queue": 10**12}, "--max-queue must be 1,048,576 or below"),
        ({"threads": 0}, "--threads must be between 1 and"),
        ({"threads": 1 << 40}, "the processors of this machine, not 1099511627776"),
        ({"drain_seconds": -5}, "--drain-seconds must be 0 or above, not -5"),
        ({"host": ""}, "--host and --allow-host take a name or address"),
        ({"host": "none.invalid"}, "cannot listen on none.invalid"),
        ({"port": 65536}, "--port must be between 0 (any) and 65535"),
        ({"allow_host": ["http://a"]}, "--host and --allow-host take a name or address"),
        ({"cors": ["a"]}, "--cors takes an origin"),
        ({"api_key": ""}, "--api-key takes ASCII"),
        ({"bundle": Path("none")}, "is not a folder"),
    ],
    ids=str,
)
def test_what_it_cannot_serve_is_one_line(
    bundle: Path, options: dict[str, Any], phrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        serve(**{"bundle": bundle, "port": 0, **options})
    [line] = capsys.readouterr().err.splitlines()
    assert (ended.value.code, line[:7]) == (2, "error: ")
    assert phrase in line


def test_texts_that_have_no_memory_are_one_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptmodel.runtime.fast_slots.untouched", lambda shape, dtype: np.empty(1 << 58, np.int8))
    with pytest.raises(UserError, match="no memory for 8 texts at once: lower --max-concurrent"):
        Service.open(bundle, "cpu", 1, None, Limits(8, 8, 100, 100))


def test_a_port_that_is_taken_is_one_line(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit):
        serve(bundle, port=taken.getsockname()[1])
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize("missing", SERVE)
def test_without_the_extra_it_says_what_to_install(bundle: Path, missing: str) -> None:
    done = without((missing,), "serve", str(bundle))
    assert (done.returncode, done.stderr) == (2, f"error: {missing} is not installed: pip install 'gptmodel[serve]'\n")


def test_it_needs_the_runtime_and_the_extra_only() -> None:
    done = without(NOT_FOR_SERVING, "serve", "--help", before="import gptmodel.serving.server")
    assert (done.returncode, done.stderr) == (0, "")


def without(packages: tuple[str, ...], *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line where importing `packages` fails."""
    code = f"import sys; sys.modules.update(dict.fromkeys({packages})); {before}\n"
    code += "from gptmodel.cli.app import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("wait_ms", [0, 10, 20, 30])
def test_a_signal_right_after_the_announcement_ends_it(bundle: Path, wait_ms: int) -> None:
    command = [sys.executable, "-m", "gptmodel", "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "listening" not in process.stderr.readline():
            pass
        time.sleep(wait_ms / 1000)
        process.terminate()
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told.splitlines()[-1]) == (0, "stopped: all requests were answered")
