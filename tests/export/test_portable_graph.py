import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from gptmodel.arrays import Ints, Logits
from gptmodel.decoding.engine import Decoder, generate
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.errors import UserError
from gptmodel.export import parity, portable_graph, transformer
from gptmodel.model.gpt import GPT
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.runtime.portable_decoder import OnnxDecoder
from tests.support.networks import CONFIGS, CONTEXT, GPT_KINDS, VOCAB_SIZE, build

pytestmark = pytest.mark.slow

Wrongness = Callable[[list[int], bool], Any]

IDS = np.random.default_rng(0).integers(0, VOCAB_SIZE, 500).astype(np.uint16)


def exported(kind: str) -> tuple[TorchDecoder, OnnxDecoder]:
    network = build(kind)
    reference = TorchDecoder(network)
    return reference, OnnxDecoder(portable_graph.build(network).SerializeToString(), reference.context)


@pytest.mark.parametrize("kind", CONFIGS)
def test_onnx_runtime_computes_what_torch_computes(kind: str) -> None:
    figures = parity.check(*exported(kind), IDS, CONTEXT, tolerance=1e-5)
    assert figures.greedy_tokens == figures.greedy_tokens_equal > 10 * CONTEXT
    assert figures.positions == 489 * CONTEXT  # every window of a text so short
    assert 0 <= figures.windows_difference <= 1e-5


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_every_weight_matters_to_the_gate(kind: str) -> None:
    network, (reference, _) = build(kind), exported(kind)
    passed = []
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 0.5
            altered = OnnxDecoder(portable_graph.build(network).SerializeToString(), network.context)
            parameter.view(-1)[-1] -= 0.5
        with contextlib.suppress(UserError):
            parity.check(reference, altered, IDS, CONTEXT, tolerance=1e-4)
            passed.append(name)
    assert passed == []


class Wrong:
    """A decoder that is off by `wrong(the lengths of the rows, whether a cache follows)`."""

    def __init__(self, decoder: Decoder, wrong: Wrongness) -> None:
        self.decoder, self.wrong = decoder, wrong
        self.context, self.vocab_size = decoder.context, decoder.vocab_size

    def prefill(self, rows: Sequence[Sequence[int]]) -> tuple[Logits, Any]:
        logits, cache = self.decoder.prefill(rows)
        return logits + self.wrong([len(row) for row in rows], True), cache

    def step(self, ids: Ints, cache: Any) -> tuple[Logits, Any]:
        logits, cache = self.decoder.step(ids, cache)
        return logits + self.wrong([1] * len(ids), True), cache

    def logits(self, rows: Sequence[Sequence[int]]) -> list[Logits]:
        return [logits + self.wrong([len(row) for row in rows], False) for logits in self.decoder.logits(rows)]


@pytest.mark.parametrize(
    ("condition", "check"),
    [
        (lambda lengths, cached: np.nan, "whole windows"),
        (lambda lengths, cached: 1.0 * (len(set(lengths)) > 1), "a ragged batch"),
        (lambda lengths, cached: 1.0 * (lengths == [1, 1, 1]), "a ragged batch"),
        (lambda lengths, cached: 1.0 * (lengths == [1]), "one token at a time"),
        (lambda lengths, cached: np.arange(VOCAB_SIZE) * (lengths == [3]), "the greedy text"),  # the first prompt
    ],
)
def test_the_gate_names_the_check_that_fails(condition: Wrongness, check: str) -> None:
    reference, decoder = exported("modern")
    with pytest.raises(UserError, match=check):
        parity.check(reference, Wrong(decoder, condition), IDS, CONTEXT, tolerance=1e-4)


def test_a_tie_in_the_greedy_text_is_told_from_a_difference() -> None:
    reference, decoder = exported("modern")
    nudged = Wrong(decoder, lambda lengths, cached: 1e-5 * np.arange(VOCAB_SIZE))
    network = reference._network
    assert isinstance(network, GPT)
    with torch.no_grad():  # two tokens with the same logit, always
        network.head.weight[4] = network.head.weight[9]
        network.head.weight[4:10:5] *= 3
    twin = OnnxDecoder(portable_graph.build(network).SerializeToString(), CONTEXT)
    nudged.decoder = twin
    figures = parity.check(reference, nudged, IDS, CONTEXT, tolerance=1e-3)
    assert figures.greedy_tokens_equal < figures.greedy_tokens


def test_a_text_shorter_than_the_context_can_be_compared() -> None:
    assert parity.check(*exported("modern"), IDS[:5], CONTEXT, tolerance=1e-5).positions == 5


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_graph_is_standard_onnx_that_the_oldest_runtime_reads(kind: str) -> None:
    model = portable_graph.build(build(kind))
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 23)]
    assert model.ir_version <= 13
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_nodes_and_weights_have_the_names_of_the_network() -> None:
    network = build("classic")
    graph = portable_graph.build(network).graph
    attention = [node for node in graph.node if node.op_type == "Attention"]
    assert [node.name for node in attention] == ["blocks.0.attention", "blocks.1.attention"]
    stored = {tensor.name for tensor in graph.initializer}
    assert set(network.state_dict()) - {"head.weight"} <= stored  # tied: the head is the transposed embedding
    inputs = [value.name for value in graph.input]
    assert inputs == ["input_ids", "pad", *(f"past_{kind}.{layer}" for layer in (0, 1) for kind in ("key", "value"))]


def test_the_same_network_gives_the_same_bytes() -> None:
    first, again = (portable_graph.build(build("modern")).SerializeToString() for _ in range(2))
    assert first == again


def test_a_network_too_large_for_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="make it smaller"):
        portable_graph.build(build("modern"))


def test_a_decoder_has_no_hidden_state() -> None:
    _, decoder = exported("modern")
    _, cache = decoder.prefill([[1, 2, 3], [4]])
    first, _ = decoder.step(np.array([5, 6]), cache)
    decoder.step(np.array([9, 9]), cache)
    again, _ = decoder.step(np.array([5, 6]), cache)
    assert np.array_equal(first, again)


def test_the_number_of_threads_changes_no_token() -> None:
    model = portable_graph.build(build("modern")).SerializeToString()
    texts = []
    for threads in (1, 2):
        decoder = OnnxDecoder(model, CONTEXT, "cpu", threads)
        steps = generate(decoder, [[1, 2], [3]], 30, Sampling(1.0), [sample_rng(0, 0), sample_rng(0, 1)])
        texts.append(np.stack(list(steps)).tolist())
    assert texts[0] == texts[1]


def test_no_threads_are_refused() -> None:
    with pytest.raises(UserError, match="threads must be between 1 and 1,024"):
        OnnxDecoder(b"", CONTEXT, "cpu", 0)


def test_bytes_that_are_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"cannot load .*model\.onnx.*export it again"):
        OnnxDecoder(tmp_path / "model.onnx", CONTEXT)
