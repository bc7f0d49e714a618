"""The same bundle in onnxruntime-web (WebAssembly, under Node): the same tokens as in Python."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gptmodel.decoding.engine import generate
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.runtime.bundle import Bundle
from tests.support.bundles import char_tokenizer, random_network, write
from tests.support.networks import CONTEXT

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "web"
PROMPT, COUNT = [5, 3, 8], CONTEXT - 3

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="no Node here"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its one dependency installed."""
    copy = tmp_path_factory.mktemp("web") / "example"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=copy, check=True)
    return copy


@pytest.mark.parametrize(
    ("kind", "graph"),
    [
        ("modern", "portable"),
        ("modern", "fp32"),
        ("modern", "int8"),
        ("classic", "portable"),
        ("classic", "fp32"),
        ("bigram", "portable"),
    ],
)
def test_webassembly_writes_what_python_writes(folder: Path, tmp_path: Path, kind: str, graph: str) -> None:
    words = char_tokenizer()
    path = write(tmp_path / "bundle", random_network(kind, words), words)
    decoder = Bundle.load(path, "cpu", graph=graph).decoder
    expected = np.stack(list(generate(decoder, [PROMPT], COUNT, Sampling(0), [sample_rng(0, 0)])))[:, 0].tolist()
    command = ["node", "generate.mjs", str(path), graph, str(COUNT), *map(str, PROMPT)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == expected
