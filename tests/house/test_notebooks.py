"""The guided tour, executed on fixture text from a folder elsewhere: its claims, its solutions, and what is stored."""

import base64
import os
import re
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from notebooks import execute

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LARGEST_BYTES = 1_000_000  # of all notebooks together, figures included
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n\n```python\n(.*?)```", re.DOTALL)
MACHINE = re.compile(r"/(?:work|home|root|Users|tmp|opt|private)/|\\Users\\|site-packages")

CLAIMS = {
    "1_bigram": [
        "abs(learned_nats - counted_nats) < 0.02",  # learning is counting
        "counted_nats <= learned_nats + 1e-6",  # and nothing that sees one character beats the counts
        "loss_nats(learned, 'validation') < np.log(V) - 0.5",
    ],
    "2_attention": [
        "largest_difference < 1e-5",  # the layer from scratch and the library's
        "network_difference < 1e-5",  # and those inside a network
        "past_change == 0 and last_change > 0.1",
        "torch.allclose(weights.sum(-1), torch.ones(4)) and weights[0, 1:].sum() == 0",
        "weights[3].argmax() == weights[2].argmax() == 1",  # both found the cat
        "torch.allclose(attention(q, k, v), weights @ v)",
        "max(places) - min(places) < 1e-4",  # a rotary score depends on the distance only
    ],
    "3_characters": [
        "curve['validation'].iloc[-1] < curve['validation'].iloc[0] - 0.5",
        "abs(curve['validation'].iloc[0] - np.log2(letters.vocab_size)) < 0.05",  # noise: all equally likely
        "counted[best_baseline] < counted['bigram'] < counted['unigram']",
        "torch.allclose(heads.sum(-1), torch.ones(heads.shape[:-1]), atol=1e-5)",
        "torch.equal(seen.lens_LTV[-1].argmax(-1), seen.logits_TV.argmax(-1))",
    ],
    "4_words": [
        "all(lossless.values())",
        "pairs['char'].loss_nats < pairs['word'].loss_nats",  # per token the characters look better,
        "pairs['char'].bits_per_char > pairs['word'].bits_per_char",  # per character they are not
        "cheating == sorted(cheating) and cheating[0] < 1 < min(honest)",  # the less it knows, the better it looks
        "all(curves[level][-1][1].nats < curves[level][0][1].nats for level in levels)",
    ],
    "5_onnx": [
        "largest_difference < 1e-4",
        "by_torch.text == by_onnx and len(by_onnx) > 100",
        "'torch loaded: False' in done.stdout",
        "abs(scored - results.metrics.validation.bits_per_char) < 1e-3",  # the bundle scores as torch did
        "min(rates.values()) > 0",
    ],
    "main": [
        "new_text[-1] < new_text[0] - 0.5 and steps[-1] == config.steps",
        "abs(bits_per_char(loss.total_nats(network, ids['validation'], device)) - min(new_text)) < 1e-3",
        "write(seed=5).text == write(seed=5).text != write(seed=6).text",
        "type(model)(**yaml.safe_load(entry)['my-char']) == config",
    ],
}


def path(name: str) -> Path:
    return ROOT / "notebooks" / f"{name}.ipynb"


def with_checks(name: str) -> NotebookNode:
    """Return the notebook with its claims and then the solutions of its exercises as cells at the end."""
    notebook = execute.read(path(name))
    claims = "\n".join(f"assert {claim}" for claim in CLAIMS[name])
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    solutions = [solution for source in prose for solution in SOLUTION.findall(source)]
    assert len(solutions) == sum(source.count("<details>") for source in prose) == (0 if name == "main" else 3)
    notebook.cells += [new_code_cell(source) for source in (claims, *solutions)]
    return notebook


@pytest.mark.parametrize("name", CLAIMS)
def test_every_cell_runs_and_the_claims_hold(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTMODEL_NOTEBOOK_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT / 'notebooks'}")
    execute.run(with_checks(name), tmp_path, timeout_seconds=120)
    assert not list(tmp_path.iterdir()), "a notebook leaves no files where it runs"


def test_all_notebooks_are_tested() -> None:
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_what_is_stored_belongs_to_the_code_and_to_no_machine(name: str) -> None:
    notebook = execute.read(path(name))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.code_sha256 == execute.code_sha256(notebook), "run: python notebooks/execute.py"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(cell.metadata for cell in notebook.cells)
    assert set(notebook.metadata) == {*execute.METADATA, "code_sha256"}
    kinds = {output.get("name", output.output_type) for cell in code for output in cell.outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}
    images = [
        base64.b64decode(output.data["image/png"])
        for cell in code
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert images
    stored = path(name).read_bytes() + b"".join(images)
    assert not MACHINE.search(stored.decode("utf-8", errors="replace"))


def test_the_notebooks_are_small() -> None:
    assert sum(path(name).stat().st_size for name in CLAIMS) < LARGEST_BYTES
    for name in CLAIMS:
        assert len(execute.read(path(name)).cells) <= 30
