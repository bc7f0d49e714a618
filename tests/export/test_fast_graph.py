"""The fast graphs, their decoders and the sampler's graph, held against torch and numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.decoding.engine import ChunkDecoder, Decoder, generate
from gptmodel.decoding.sampling import Sampling, choose, sample_rng
from gptmodel.errors import UserError
from gptmodel.export import calibration, fast_graph, parity, sampler_graph
from gptmodel.export.fast_graph import quantise
from gptmodel.model import gpt
from gptmodel.model.loss import total_nats
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.runtime import fast_session
from gptmodel.runtime.device_decoder import CHUNK, DeviceDecoder
from gptmodel.runtime.fast_decoder import FastDecoder
from gptmodel.runtime.graphs import Precision
from tests.support.networks import CONTEXT, GPT_KINDS, VOCAB_SIZE, build, build_gpt

pytestmark = pytest.mark.slow

IDS = np.random.default_rng(0).integers(0, VOCAB_SIZE, 500).astype(np.uint16)
SAMPLER = sampler_graph.build().SerializeToString()
SAMPLINGS = [Sampling(0), Sampling(1.0), Sampling(0.8, top_p=0.9), Sampling(0.9, 5, 0.9, 1.3), Sampling(1.2, 3)]


def model(kind: str, precision: Precision = "fp32") -> bytes:
    serialized: bytes = graph(kind, precision).SerializeToString()
    return serialized


def graph(kind: str, precision: Precision) -> onnx.ModelProto:
    network = build_gpt(kind)
    return fast_graph.build(network, precision, calibration.cache_ranges(network, IDS))


def write(
    decoder: Decoder, prompts: Sequence[Sequence[int]], count: int, sampling: Sampling, **options: Any
) -> list[list[int]]:
    rngs = [sample_rng(3, row) for row in range(len(prompts))]
    ids: list[list[int]] = np.stack(list(generate(decoder, prompts, count, sampling, rngs, **options))).tolist()
    return ids


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_fast_graph_computes_what_torch_computes(kind: str) -> None:
    figures = parity.check(TorchDecoder(build(kind)), FastDecoder(model(kind)), IDS, CONTEXT, tolerance=1e-5)
    assert figures.greedy_tokens == figures.greedy_tokens_equal > 10 * CONTEXT


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_runtime_without_the_norm_of_heads_takes_the_definition_in_the_model(precision: Precision) -> None:
    known = graph("modern", precision)
    unknown = onnx.ModelProto.FromString(known.SerializeToString())
    named = [*unknown.functions, *(n for n in unknown.graph.node if n.op_type == fast_graph.HEAD_NORM)]
    for one in named:
        setattr(one, "name" if one in unknown.functions else "op_type", "NormOfNoRuntime")
    assert len(named) == 1 + 2 * build_gpt("modern").config.n_layer
    rows = [IDS[:CONTEXT].tolist(), IDS[3:9].tolist()]
    logits = []
    for each in (known, unknown):
        decoder = FastDecoder(each.SerializeToString())
        logits.append(np.concatenate(decoder.logits(rows)))
    assert np.allclose(logits[0], logits[1], atol=1e-5 if precision == "fp32" else 5e-3)


@pytest.mark.parametrize("kind", GPT_KINDS)
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_fewer_bits_cost_little_and_the_cost_is_torchs_own_measure(kind: str, precision: Precision) -> None:
    network = build(kind)
    paid = total_nats(network, IDS, torch.device("cpu"))
    exact = parity.cost(FastDecoder(model(kind)), IDS, CONTEXT, paid, 1e-5)
    assert abs(exact.change) < 1e-6
    rounded = parity.cost(FastDecoder(model(kind, precision)), IDS, CONTEXT, paid, 0.01)
    assert 1e-7 < abs(rounded.change) < 0.01
    assert rounded.tokens == len(IDS)
    with pytest.raises(UserError, match=r"costs \+\d+\.\d+% more bits than in torch, above the limit of 0\.10%"):
        parity.cost(FastDecoder(model(kind, precision)), IDS, CONTEXT, paid * 0.9, 0.001)


@pytest.mark.parametrize("kind", GPT_KINDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("length", [3, 5, 8, CONTEXT])
def test_a_prompt_read_in_chunks_gives_what_it_gives_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, kind: str, precision: Precision, length: int
) -> None:
    whole, chunked = (FastDecoder(model(kind, precision)) for _ in range(2))
    row = IDS[:length].tolist()
    read = []
    for decoder, chunk in [(whole, CONTEXT), (chunked, 4)]:
        monkeypatch.setattr(fast_session, "CHUNK", chunk)
        [everywhere] = decoder.logits([row])
        at_the_end, cache = decoder.prefill([row])
        assert everywhere.shape == (length, VOCAB_SIZE)
        assert np.allclose(everywhere[-1:], at_the_end, atol=1e-5)
        read.append([everywhere, *(cache.buffers.past[name].read() for name in sorted(cache.buffers.past))])
    for one, other in zip(*read, strict=True):
        assert np.allclose(one, other, atol=1 if one.dtype == np.int8 else 1e-5)


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_an_8_bit_cache_holds_the_keys_and_values_that_torch_has(kind: str) -> None:
    network = build_gpt(kind)
    ranges = calibration.cache_ranges(network, IDS)
    decoder = FastDecoder(fast_graph.build(network, "int8", ranges).SerializeToString())
    rows = [IDS[:CONTEXT].tolist(), IDS[40 : 40 + CONTEXT].tolist()]
    _, held = decoder.prefill(rows)
    _, torchs = TorchDecoder(network).prefill(rows)
    assert isinstance(torchs, gpt.Cache)
    for layer, largest in enumerate(ranges):
        for bound, kind_of, exact in zip(
            largest, ("key", "value"), (torchs.keys_BHSD, torchs.values_BHSD), strict=True
        ):
            integers = held.buffers.past[f"past_{kind_of}.{layer}"].read()
            assert integers.dtype == np.int8
            error = np.abs(integers * (bound / fast_graph.LARGEST) - exact[layer].numpy()).max()
            assert error < 0.05 * bound  # half a step is 0.004; the rest comes from the 8-bit products before


@pytest.mark.parametrize("length", [1, 7, CONTEXT, CONTEXT + 1, len(IDS)])
def test_the_ranges_of_a_text_are_the_largest_keys_and_values_of_its_windows(length: int) -> None:
    network, ids = build_gpt("modern"), IDS[:length]
    ranges = np.array(list(calibration.cache_ranges(network, ids)), dtype=np.float64)
    window = min(CONTEXT, length)
    largest = np.zeros_like(ranges)
    for start in range(length - window + 1):
        _, cache = TorchDecoder(network).prefill([ids[start : start + window].tolist()])
        found = [[abs(keys).max(), abs(values).max()] for keys, values in zip(*cache[1:], strict=True)]
        largest = np.maximum(largest, found)
    assert np.allclose(ranges, largest, rtol=1e-5)


def test_a_layer_of_zeros_can_be_written_in_8_bits() -> None:
    network = build_gpt("modern")
    with torch.no_grad():
        network.layers[0].attention.qkv.weight.zero_()
    ranges = calibration.cache_ranges(network, IDS)
    assert ranges[0] == (0, 0)
    decoder = FastDecoder(fast_graph.build(network, "int8", ranges).SerializeToString())
    assert np.isfinite(decoder.logits([[1, 2, 3]])).all()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 100) | st.sampled_from([128, 192, 384]),
    st.integers(0, 9),
    st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_a_quantised_weight_is_off_by_half_a_scale_at_most(n: int, k: int, seed: int, size: float) -> None:
    weight = (np.random.default_rng(seed).normal(size=(n, k)) * size).astype(np.float32)
    weight[0, : k // 2] = 0
    integers, scales = quantise(weight)
    back = ((integers.astype(np.float64) - 128) * scales[..., None]).reshape(n, -1)
    assert (np.abs(back[:, :k] - weight) <= 0.5001 * np.repeat(scales, integers.shape[2], axis=1)[:, :k]).all()
    assert (back[:, k:] == 0).all()


@pytest.mark.parametrize("kind", GPT_KINDS)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_every_decoder_writes_the_same_text(kind: str, sampling: Sampling) -> None:
    prompts, count = [[1, 2, 3], [4], list(range(CONTEXT + 7))], 3 * CONTEXT
    allowed = np.ones((3, VOCAB_SIZE), dtype=bool)
    allowed[1, 9:] = False
    options = {"banned_ids": [0, 5], "first_allowed_BV": allowed}
    expected = write(TorchDecoder(build(kind)), prompts, count, sampling, **options)
    assert write(FastDecoder(model(kind)), prompts, count, sampling, **options) == expected
    chunks = DeviceDecoder(model(kind), SAMPLER)
    assert isinstance(chunks, ChunkDecoder)
    assert write(chunks, prompts, count, sampling, **options) == expected
    chunks.chunk = 2
    assert write(chunks, prompts, count, sampling, **options) == expected
    assert write(chunks, prompts[:1], count, sampling, banned_ids=[0, 5]) == [row[:1] for row in expected]


@pytest.mark.parametrize("vocabulary", [2, 33, 700])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_sampler_in_the_graph_draws_what_numpy_draws(vocabulary: int, sampling: Sampling) -> None:
    session = onnxruntime.InferenceSession(SAMPLER, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(vocabulary)
    batch, steps, step = 64, 3, 2
    logits = (3 * rng.normal(size=(batch, vocabulary))).astype(np.float32)
    logits[:, 1] = logits[:, 0]  # equals
    uniform, allowed = rng.random((steps, batch)), rng.random(vocabulary) < 0.8
    allowed[0] = True
    seen, tokens = rng.random((batch, vocabulary)) < 0.5, rng.integers(0, 9, (steps, batch))
    feed = {
        "logits": logits,
        "uniform": uniform,
        "step": np.array([step]),
        "temperature": np.array(float(sampling.temperature)),
        "top_p": np.array(sampling.top_p),
        "top_k": np.array(sampling.top_k),
        "repetition_penalty": np.array(sampling.repetition_penalty),
        "allowed": allowed,
        "seen": seen,
        "tokens": tokens,
        "last_place": np.arange(batch, dtype=np.int32),
    }
    names = [output.name for output in session.get_outputs()]
    after = dict(zip(names, session.run(None, feed), strict=True))
    expected = choose(logits, sampling, uniform[step], allowed, seen)
    assert after["next_ids"][:, 0].tolist() == expected.tolist()
    assert after["next_tokens"].tolist() == [*tokens[:step].tolist(), expected.tolist()]
    assert after["next_step"].tolist() == [step + 1]
    assert after["next_last_place"].tolist() == after["next_position_ids"][:, 0].tolist() == list(range(1, batch + 1))
    seen[np.arange(batch), expected] = True
    assert (after["next_seen"] == seen).all()


def test_a_large_cache_takes_memory_only_where_it_is_written() -> None:
    resident = psutil.Process().memory_info
    before = resident().rss
    cache = fast_session.untouched((256, 1 << 20), np.float32)  # 1 GiB
    cache[:, :100] = 1
    assert resident().rss - before < 64 << 20
    assert cache[:, :200].sum() == 256 * 100


def test_a_cache_that_was_given_up_is_refused() -> None:
    decoder = FastDecoder(model("modern"))
    _, old = decoder.prefill([[1, 2], [3]])
    _, cache = decoder.prefill([[1, 2], [3]])
    step = np.array([4, 5])
    with pytest.raises(ValueError, match="given up"):
        decoder.step(step, old)
    _, after = decoder.step(step, cache)
    with pytest.raises(ValueError, match="given up"):
        decoder.step(step, cache)
    decoder.logits([[1], [2]])
    with pytest.raises(ValueError, match="given up"):
        decoder.step(step, after)


def test_a_new_batch_leaves_nothing_of_the_old_one() -> None:
    decoder, fresh = FastDecoder(model("classic")), FastDecoder(model("classic"))
    write(decoder, [[1, 2, 3, 4, 5, 6], [7]], 5, SAMPLINGS[1])
    prompts = [[2], [3, 4, 5]]
    assert write(decoder, prompts, 20, SAMPLINGS[1]) == write(fresh, prompts, 20, SAMPLINGS[1])


def test_the_last_place_is_that_of_all_places() -> None:
    decoder = FastDecoder(model("modern"))
    rows = [[1, 2, 3, 4], [3], [5, 6]]
    whole = decoder.logits(rows)
    last, _ = decoder.prefill(rows)
    assert [logits.shape for logits in whole] == [(4, VOCAB_SIZE), (1, VOCAB_SIZE), (2, VOCAB_SIZE)]
    assert last.shape == (3, VOCAB_SIZE)
    assert np.allclose([logits[-1] for logits in whole], last, atol=1e-6)


def test_a_chunk_is_filled_to_its_last_token() -> None:
    decoder = DeviceDecoder(model("modern"), SAMPLER)
    expected = write(FastDecoder(model("modern")), [[1]], CONTEXT + CHUNK, SAMPLINGS[1])
    assert write(decoder, [[1]], CONTEXT + CHUNK, SAMPLINGS[1]) == expected


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
def test_the_graphs_of_the_same_network_are_the_same_bytes_that_the_runtime_reads(precision: Precision) -> None:
    first, again = (graph("modern", precision) for _ in range(2))
    assert first.SerializeToString() == again.SerializeToString()
    assert first.ir_version <= 13
    assert {opset.domain for opset in first.opset_import} == {"", "com.microsoft"}
    kinds = {tensor.data_type for tensor in first.graph.initializer if not tensor.name.startswith("shape/")}
    wanted = {"fp32": onnx.TensorProto.FLOAT, "int8": onnx.TensorProto.UINT8, "fp16": onnx.TensorProto.FLOAT16}
    assert wanted[precision] in kinds
    assert precision == "int8" or kinds == {wanted[precision]}
