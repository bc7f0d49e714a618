"""The laws of the stepwise engine: a sequence is the same alone and beside others, cached and recomputed."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.arrays import Ints, Logits
from gptmodel.decoding.engine import Batch, Decoder, DecoderSlots, TokenSequence, generate, window_start
from gptmodel.decoding.sampling import Sampling, choose, sample_rng
from gptmodel.model import gpt
from gptmodel.model.torch_decoder import TorchDecoder
from tests.support.networks import CONFIGS, CONTEXT, GPT_KINDS, VOCAB_SIZE, build

FREE = Sampling(temperature=1.0)


def tokens(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    count: int,
    sampling: Sampling = FREE,
    samples: Sequence[int] | None = None,
    **options: Any,
) -> list[list[int]]:
    rngs = [sample_rng(5, sample) for sample in (samples or range(len(prompts)))]
    ids: list[list[int]] = np.stack(list(generate(decoder, prompts, count, sampling, rngs, **options)), axis=1).tolist()
    return ids


def test_every_token_of_prompt_and_text_counts_as_seen() -> None:
    inner = TorchDecoder(build("modern"))

    class Positive:
        context, vocab_size, logits = inner.context, inner.vocab_size, inner.logits

        def prefill(self, rows: Sequence[Sequence[int]]) -> tuple[Logits, Any]:
            logits, cache = inner.prefill(rows)
            return logits + 100, cache

        def step(self, ids: Ints, cache: Any) -> tuple[Logits, Any]:
            logits, cache = inner.step(ids, cache)
            return logits + 100, cache

    written = tokens(Positive(), [[1, 2], [3]], VOCAB_SIZE - 2, Sampling(0.0, repetition_penalty=1e9))
    assert len({1, 2, *written[0]}) == VOCAB_SIZE
    assert len({3, *written[1]}) == VOCAB_SIZE - 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(1, 64))
def test_a_window_fits_the_context_and_keeps_at_least_half_of_it(length: int, context: int) -> None:
    start = window_start(length, context)
    assert 0 < length - start <= context
    assert start == 0 if length <= context else length - start > context - max(1, context // 2)
    assert window_start(length + 1, context) >= start


@pytest.mark.parametrize("kind", CONFIGS)
def test_cached_equals_recomputed_from_the_window_past_the_context_too(kind: str) -> None:
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
def test_a_row_does_not_depend_on_the_rows_beside_it(kind: str) -> None:
    decoder = TorchDecoder(build(kind))
    prompts = [[7, 8, 9], list(range(10)), [4], list(range(CONTEXT + 5)), [7, 8, 9]]
    sampling = Sampling(0.9, top_k=9, top_p=0.9)
    together = tokens(decoder, prompts, 2 * CONTEXT, sampling)
    alone = [tokens(decoder, [prompt], 2 * CONTEXT, sampling, [i])[0] for i, prompt in enumerate(prompts)]
    assert together == alone
    assert together[0] != together[4]  # the same prompt, another sample


def test_the_same_seed_gives_the_same_tokens_and_another_one_others() -> None:
    decoder = TorchDecoder(build("modern"))
    first, again = tokens(decoder, [[1]], 40), tokens(decoder, [[1]], 40)
    assert first == again
    assert first != tokens(decoder, [[1]], 40, samples=[1])


def test_torch_keeps_no_hidden_state() -> None:
    decoder = TorchDecoder(build("modern"))
    _, cache = decoder.prefill([[1, 2, 3], [4]])
    first, _ = decoder.step(np.array([5, 6]), cache)
    decoder.step(np.array([9, 9]), cache)
    again, _ = decoder.step(np.array([5, 6]), cache)
    assert np.array_equal(first, again)


def test_banned_tokens_never_come_and_first_tokens_can_be_restricted() -> None:
    decoder = TorchDecoder(build("classic"))
    banned = list(range(0, VOCAB_SIZE, 2))
    allowed = np.zeros((2, VOCAB_SIZE), dtype=bool)
    allowed[0, 3], allowed[1] = True, True
    written = tokens(decoder, [[1], [2]], 50, banned_ids=banned, first_allowed_BV=allowed)
    assert not set(itertools.chain(*written)) & set(banned)
    assert written[0][0] == 3


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_cache_never_outgrows_the_context(kind: str) -> None:
    decoder = TorchDecoder(build(kind))
    seen = []

    class Watched:
        context, vocab_size, logits = decoder.context, decoder.vocab_size, decoder.logits

        def prefill(self, rows: Sequence[Sequence[int]]) -> tuple[Logits, Any]:
            logits, cache = decoder.prefill(rows)
            assert isinstance(cache, gpt.Cache)
            seen.append(cache.keys_BHSD[0].shape[2])
            return logits, cache

        def step(self, ids: Ints, cache: Any) -> tuple[Logits, Any]:
            logits, cache = decoder.step(ids, cache)
            assert isinstance(cache, gpt.Cache)
            seen.append(cache.keys_BHSD[0].shape[2])
            return logits, cache

    tokens(Watched(), [[1], list(range(CONTEXT - 2))], 3 * CONTEXT)
    assert max(seen) == CONTEXT


def test_a_network_in_training_mode_is_refused() -> None:
    decoder = TorchDecoder(build("modern").train())
    with pytest.raises(ValueError, match="eval"):
        tokens(decoder, [[1]], 1)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        tokens(TorchDecoder(build("modern")), [[1], []], 1)


def test_sequences_that_come_and_go_get_the_tokens_that_they_get_alone() -> None:
    decoder = TorchDecoder(build("modern"))
    drawn = [Sampling(1.0), Sampling(0.7, top_k=5), Sampling(0.9, repetition_penalty=1.5)]
    sequences = [TokenSequence([1 + i] * (1 + 5 * i), VOCAB_SIZE, drawn[i], sample_rng(5, i)) for i in range(3)]
    batch = Batch[TokenSequence](DecoderSlots(decoder, 2), banned_ids=[0])
    for sequence in sequences[:2]:
        batch.join(sequence)
    with pytest.raises(ValueError, match="all 2 slots are taken"):
        batch.join(sequences[2])
    for _ in range(9):
        batch.turn()
    batch.leave(sequences[0])
    batch.join(sequences[2])
    for _ in range(2 * CONTEXT):
        ids, logits = batch.turn()
        assert ids.tolist() == [sequence.ids[-1] for sequence in batch.running]
        assert logits.shape == (2, VOCAB_SIZE)
    assert batch.decoder_seconds > 0
    for i, sequence in enumerate(sequences):
        prompt = sequence.ids[: sequence.prompt_length]
        rest = sequence.ids[sequence.prompt_length :]
        assert [rest] == tokens(decoder, [prompt], len(rest), drawn[i], [i], banned_ids=[0])
    assert [len(sequence.ids) - sequence.prompt_length for sequence in sequences] == [9, 9 + 2 * CONTEXT, 2 * CONTEXT]
