import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gptmodel.decoding.engine import generate, window_start
from gptmodel.decoding.sampling import InvalidSetting, Sampling, choose, sample_rng
from gptmodel.model.torch_decoder import TorchDecoder
from tests.support.networks import CONFIGS, CONTEXT, GPT_KINDS, VOCAB_SIZE, build

FREE = Sampling(temperature=1.0)
LOGITS = arrays.arrays(np.float32, (3, 7), elements=st.floats(-30, 30, width=32))
UNIFORM = arrays.arrays(np.float64, (3,), elements=st.floats(0, 1, exclude_max=True))


def tokens(decoder, prompts, count, sampling=FREE, samples=None, **options):
    rngs = [sample_rng(5, sample) for sample in (samples or range(len(prompts)))]
    return np.stack(list(generate(decoder, prompts, count, sampling, rngs, **options)), axis=1).tolist()


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1.0, "top_k": -1},
        {"temperature": 1.0, "top_p": 0.0},
        {"temperature": 1.0, "top_p": 1.1},
        {"temperature": 1.0, "top_p": float("nan")},
        {"temperature": 1.0, "repetition_penalty": 0.0},
        {"temperature": 1.0, "repetition_penalty": float("nan")},
    ],
)
def test_sampling_values_that_make_no_sense_are_named(values):
    with pytest.raises(InvalidSetting) as error:
        Sampling(**values)
    assert error.value.field == list(values)[-1]


@settings(max_examples=50, deadline=None)
@given(LOGITS, UNIFORM, st.integers(0, 8), st.floats(0.01, 1), st.floats(0.05, 5), st.integers(0, 6))
def test_only_the_k_likeliest_of_the_nucleus_are_ever_drawn(logits, uniform, top_k, top_p, temperature, banned):
    drawn = choose(logits, Sampling(temperature, top_k, top_p), uniform, np.arange(7) != banned)
    for row, token in zip(logits.astype(np.float64), drawn, strict=True):
        row[banned] = -np.inf
        weight = np.exp((row - row.max()) / temperature)
        order = np.argsort(-weight, kind="stable")[: top_k or None]
        share = weight[order] / weight[order].sum()
        nucleus = order[np.cumsum(share) - share < top_p + 1e-12]
        assert token in nucleus
        assert token != banned


def test_the_uniform_numbers_are_shared_out_as_the_probabilities():
    share = np.array([0.05, 0.5, 0.0, 0.25, 0.2])
    with np.errstate(divide="ignore"):
        logits = np.log(share, dtype=np.float32) / 2
    uniform = (np.arange(10_000) + 0.5) / 10_000
    drawn = choose(np.tile(logits, (len(uniform), 1)), Sampling(temperature=0.5), uniform)
    assert np.allclose(np.bincount(drawn, minlength=5) / len(uniform), share, atol=1e-3)
    nucleus = choose(np.tile(logits, (len(uniform), 1)), Sampling(0.5, top_p=0.7), uniform)
    assert np.allclose(np.bincount(nucleus, minlength=5) / len(uniform), [0, 2 / 3, 0, 1 / 3, 0], atol=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(np.float32, (3, 40), elements=st.sampled_from([-20.0, -3.0, 0.0, 0.5, 1.0])),
    UNIFORM,
    st.integers(0, 41),
    st.sampled_from([0.01, 0.3, 0.9, 0.999, 1.0]),
)
def test_choosing_among_equals_is_what_sorting_everything_gives(logits, uniform, top_k, top_p):
    drawn = choose(logits, Sampling(1.0, top_k, top_p), uniform)
    for row, point, token in zip(logits.astype(np.float64), uniform, drawn, strict=True):
        weight = np.exp(row - row.max())
        order = np.argsort(-weight, kind="stable")
        if top_k:
            weight[order[top_k:]] = 0
        before = np.cumsum(weight[order]) - weight[order]
        weight[order[before >= top_p * weight.sum() * (1 + 1e-12 * (top_p == 1))]] = 0
        mass = np.cumsum(weight)
        near = np.abs(mass / mass[-1] - point).min() < 1e-9  # rounding may decide
        assert near or token == np.count_nonzero(mass <= point * mass[-1])


def test_seen_tokens_pay_the_penalty_whatever_their_sign():
    logits = np.array([[2.0, -2.0, 1.1, -2.9]], dtype=np.float32)
    seen = np.array([[True, True, False, False]])
    shares = {}
    for penalty in (1.0, 2.0):
        uniform = (np.arange(100_000) + 0.5) / 100_000
        drawn = choose(np.repeat(logits, 100_000, 0), Sampling(1.0, repetition_penalty=penalty), uniform, None, seen)
        shares[penalty] = np.bincount(drawn, minlength=4) / 100_000
    expected = np.exp([[2.0, -2.0, 1.1, -2.9], [1.0, -4.0, 1.1, -2.9]])
    assert np.allclose(list(shares.values()), expected / expected.sum(axis=1, keepdims=True), atol=1e-4)


def test_every_token_of_prompt_and_text_counts_as_seen():
    inner = TorchDecoder(build("modern"))

    class Positive:
        context, vocab_size, logits = inner.context, inner.vocab_size, inner.logits

        def prefill(self, rows):
            logits, cache = inner.prefill(rows)
            return logits + 100, cache

        def step(self, ids, cache):
            logits, cache = inner.step(ids, cache)
            return logits + 100, cache

    written = tokens(Positive(), [[1, 2], [3]], VOCAB_SIZE - 2, Sampling(0.0, repetition_penalty=1e9))
    assert len({1, 2, *written[0]}) == VOCAB_SIZE
    assert len({3, *written[1]}) == VOCAB_SIZE - 1


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-6])
def test_no_temperature_is_the_likeliest_token(temperature):
    logits = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 4.0]], dtype=np.float32)
    assert choose(logits, Sampling(temperature), np.array([0.9, 0.0])).tolist() == [1, 0]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(1, 64))
def test_a_window_fits_the_context_and_keeps_at_least_half_of_it(length, context):
    start = window_start(length, context)
    assert 0 < length - start <= context
    assert start == 0 if length <= context else length - start > context - max(1, context // 2)
    assert window_start(length + 1, context) >= start


@pytest.mark.parametrize("kind", CONFIGS)
def test_cached_equals_recomputed_from_the_window_past_the_context_too(kind):
    decoder = TorchDecoder(build(kind))
    prompts, count = [[3], [1, 2, 3, 4, 5], list(range(CONTEXT + 3))], 3 * CONTEXT
    written = tokens(decoder, prompts, count)
    for prompt, row, sample in zip(prompts, written, range(3), strict=True):
        rng, seen = sample_rng(5, sample), list(prompt)
        for token in row:
            window = seen[window_start(len(seen), decoder.context) :]
            [logits] = decoder.logits([window])
            assert choose(logits[-1:], FREE, np.array([rng.random()]))[0] == token
            seen.append(token)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_row_does_not_depend_on_the_rows_beside_it(kind):
    decoder = TorchDecoder(build(kind))
    prompts = [[7, 8, 9], list(range(10)), [4], list(range(CONTEXT + 5)), [7, 8, 9]]
    sampling = Sampling(0.9, top_k=9, top_p=0.9)
    together = tokens(decoder, prompts, 2 * CONTEXT, sampling)
    alone = [tokens(decoder, [prompt], 2 * CONTEXT, sampling, [i])[0] for i, prompt in enumerate(prompts)]
    assert together == alone
    assert together[0] != together[4]  # the same prompt, another sample


def test_the_same_seed_gives_the_same_tokens_and_another_one_others():
    decoder = TorchDecoder(build("modern"))
    first, again = tokens(decoder, [[1]], 40), tokens(decoder, [[1]], 40)
    assert first == again
    assert first != tokens(decoder, [[1]], 40, samples=[1])


def test_torch_keeps_no_hidden_state():
    decoder = TorchDecoder(build("modern"))
    _, cache = decoder.prefill([[1, 2, 3], [4]])
    first, _ = decoder.step(np.array([5, 6]), cache)
    decoder.step(np.array([9, 9]), cache)
    again, _ = decoder.step(np.array([5, 6]), cache)
    assert np.array_equal(first, again)


def test_banned_tokens_never_come_and_first_tokens_can_be_restricted():
    decoder = TorchDecoder(build("classic"))
    banned = list(range(0, VOCAB_SIZE, 2))
    allowed = np.zeros((2, VOCAB_SIZE), dtype=bool)
    allowed[0, 3], allowed[1] = True, True
    written = tokens(decoder, [[1], [2]], 50, banned_ids=banned, first_allowed_BV=allowed)
    assert not set(itertools.chain(*written)) & set(banned)
    assert written[0][0] == 3


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_cache_never_outgrows_the_context(kind):
    decoder = TorchDecoder(build(kind))
    seen = []

    class Watched:
        context, vocab_size, logits = decoder.context, decoder.vocab_size, decoder.logits

        def prefill(self, rows):
            logits, cache = decoder.prefill(rows)
            seen.append(cache.keys_BHSD[0].shape[2])
            return logits, cache

        def step(self, ids, cache):
            logits, cache = decoder.step(ids, cache)
            seen.append(cache.keys_BHSD[0].shape[2])
            return logits, cache

    tokens(Watched(), [[1], list(range(CONTEXT - 2))], 3 * CONTEXT)
    assert max(seen) == CONTEXT


def test_a_network_in_training_mode_is_refused():
    decoder = TorchDecoder(build("modern").train())
    with pytest.raises(ValueError, match="eval"):
        tokens(decoder, [[1]], 1)


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        tokens(TorchDecoder(build("modern")), [[1], []], 1)
