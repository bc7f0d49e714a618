import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.evaluation.ngram import Bigram, bigram_nats, unigram_nats, unigram_probabilities

VOCAB = 5
texts = st.lists(st.integers(0, VOCAB - 1), max_size=40).map(lambda ids: np.array(ids, dtype=np.uint16))

TINYSHAKESPEARE = Path(os.environ.get("GPTMODEL_MIRROR", "downloads")) / "tinyshakespeare.txt"


@settings(max_examples=60, deadline=None)
@given(train=texts)
def test_every_distribution_sums_to_one_and_excludes_nothing(train: np.ndarray) -> None:
    bigram = Bigram.fit(train, VOCAB)
    previous, following = np.repeat(np.arange(VOCAB), VOCAB), np.tile(np.arange(VOCAB), VOCAB)
    table = bigram.probabilities(previous, following).reshape(VOCAB, VOCAB)
    assert np.allclose(table.sum(axis=1), 1)
    assert (table > 0).all()
    assert math.isclose(unigram_probabilities(train, VOCAB).sum(), 1)


@settings(max_examples=60, deadline=None)
@given(train=texts, text=texts)
def test_totals_are_the_sum_of_what_each_token_costs(train: np.ndarray, text: np.ndarray) -> None:
    bigram, unigram = Bigram.fit(train, VOCAB), unigram_probabilities(train, VOCAB)
    costs = [-math.log(unigram[w]) if i == 0 else -math.log(bigram.probabilities(text[i - 1 : i], text[i : i + 1])[0])
             for i, w in enumerate(text)]  # fmt: skip
    assert math.isclose(bigram_nats(train, text, VOCAB), sum(costs), abs_tol=1e-9)
    assert math.isclose(unigram_nats(train, text, VOCAB), sum(-math.log(unigram[w]) for w in text), abs_tol=1e-9)


def test_values_counted_by_hand() -> None:
    train = np.array([0, 1, 0, 1, 0, 2, 0, 1])  # pairs: 01 three times, 10 twice, 02 once, 20 once
    bigram = Bigram.fit(train, vocab_size=4)
    d = (2 + 1) / ((2 + 1) + 2 * (1 + 1))  # two pairs seen once, one seen twice
    base = [3 / 8, 2 / 8, 2 / 8, 1 / 8]  # distinct pairs that end in 0, 1, 2, 3: two, one, one, none; each plus one
    assert bigram.discount == pytest.approx(3 / 7)
    after_0 = [(0 + 2 * d * base[0]) / 4, (3 - d + 2 * d * base[1]) / 4, (1 - d + 2 * d * base[2]) / 4]
    assert bigram.probabilities(np.zeros(3, int), np.arange(3)) == pytest.approx(after_0)
    assert bigram.probabilities(np.array([3]), np.array([2])) == pytest.approx(base[2])  # 3 was never seen
    first = -math.log((4 + 1) / (8 + 4))  # token 0 by the unigram
    assert unigram_nats(train, np.array([0, 3]), 4) == pytest.approx(first - math.log(1 / 12))
    assert bigram_nats(train, np.array([0, 1, 2]), 4) == pytest.approx(
        first - math.log(after_0[1]) - math.log((0 + 1 * d * base[2]) / 2)  # 1 begins two pairs of one kind
    )


def test_a_deterministic_text_costs_nearly_nothing_and_pays_for_surprise() -> None:
    train = np.tile(np.arange(VOCAB), 200)
    assert bigram_nats(train, train, VOCAB) / len(train) < 0.02 < unigram_nats(train, train, VOCAB) / len(train)
    assert bigram_nats(train, np.array([0, 2]), VOCAB) > bigram_nats(train, np.array([0, 1]), VOCAB) + 5


def test_memory_does_not_grow_with_the_square_of_the_vocabulary() -> None:
    ids = np.random.default_rng(0).integers(0, 65_536, size=20_000, dtype=np.uint16)
    bigram = Bigram.fit(ids, 65_536)
    assert sum(array.nbytes for array in (bigram.keys, bigram.counts, bigram.totals, bigram.kinds, bigram.base)) < 4e6
    assert np.isfinite(bigram_nats(ids, ids[::-1], 65_536))


@pytest.mark.parametrize("size", [0, 1])
def test_a_training_text_without_pairs_leaves_the_unigram(size: int) -> None:
    train = np.zeros(size, dtype=np.uint16)
    assert np.isfinite(bigram_nats(train, np.array([0, 1, 1]), 2))
    assert bigram_nats(train, np.array([], dtype=np.uint16), 2) == 0


@pytest.mark.skipif(not TINYSHAKESPEARE.exists(), reason="GPTMODEL_MIRROR names no folder with tinyshakespeare.txt")
def test_tinyshakespeare_by_exact_position() -> None:
    text = TINYSHAKESPEARE.read_text(encoding="utf-8")
    characters = np.array(sorted(set(text)))
    ids = np.searchsorted(characters, np.array(list(text)))
    cut = int(0.9 * len(ids))
    train, validation = ids[:cut], ids[cut:]
    assert unigram_nats(train, validation, 65) / len(validation) == pytest.approx(3.347, abs=0.001)
    assert bigram_nats(train, validation, 65) / len(validation) == pytest.approx(2.482, abs=0.003)
