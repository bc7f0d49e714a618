import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptmodel.evaluation.kneser_ney import KneserNey, Level, kneser_ney_nats
from gptmodel.evaluation.ngram import unigram_nats

VOCAB = 4
ids_of = st.lists(st.integers(0, VOCAB - 1), max_size=40)
texts = ids_of.map(lambda ids: np.array(ids, dtype=np.uint16))

TINYSHAKESPEARE = Path(os.environ.get("GPTMODEL_MIRROR", "downloads")) / "tinyshakespeare.txt"


def discounts(counts: list[int]) -> list[float]:
    """Equation 26 of Chen & Goodman, each n raised by one and no discount below the first."""
    n1, n2, n3, n4 = (sum(count == times for count in counts) + 1 for times in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    return [0, y, max(y, 2 - 3 * y * n3 / n2), max(y, 3 - 4 * y * n4 / n3)]


def by_definition(train: list[int], context: list[int], token: int, order: int, longest: bool = True) -> float:
    """p(token | context) as the formula reads, counted anew at every call; `longest` is the order's own level."""
    if order == 0:
        return 1 / VOCAB
    grams = [tuple(train[i : i + order]) for i in range(len(train) - order + 1)]
    if not longest:  # how many different tokens stand before the n-gram
        grams = [gram[1:] for gram in {tuple(train[i : i + order + 1]) for i in range(len(train) - order)}]
    counts = Counter(grams)
    taken = discounts(list(counts.values()))
    history = tuple(context[len(context) - order + 1 :])
    after = [counts[(*history, w)] for w in range(VOCAB)]
    lower = by_definition(train, context, token, order - 1, longest=False)
    if not sum(after):
        return lower
    freed = sum(taken[min(count, 3)] for count in after)
    return (after[token] - taken[min(after[token], 3)] + freed * lower) / sum(after)


@settings(max_examples=60, deadline=None)
@given(train=ids_of, text=st.lists(st.integers(0, VOCAB - 1), max_size=8), order=st.integers(1, 5))
def test_every_token_costs_what_the_formula_says(train: list[int], text: list[int], order: int) -> None:
    n = min(order, len(train))
    expected = [by_definition(train, text[:i], token, min(i + 1, n), i + 1 >= n) for i, token in enumerate(text)]
    model = KneserNey.fit(np.array(train, dtype=np.uint16), VOCAB, order)
    assert model.probabilities(np.array(text, dtype=np.uint16)) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(train=texts, context=st.lists(st.integers(0, VOCAB - 1), max_size=6), order=st.integers(1, 6))
def test_after_any_context_the_probabilities_sum_to_one_and_exclude_nothing(
    train: np.ndarray, context: list[int], order: int
) -> None:
    model = KneserNey.fit(train, VOCAB, order)
    after = np.array([model.probabilities(np.array([*context, token]))[-1] for token in range(VOCAB)])
    assert math.isclose(after.sum(), 1)
    assert (after > 0).all()


@settings(max_examples=60, deadline=None)
@given(train=texts, text=texts, order=st.integers(1, 50))
def test_the_total_is_finite_and_the_sum_of_what_each_token_costs(
    train: np.ndarray, text: np.ndarray, order: int
) -> None:
    nats = kneser_ney_nats(train, text, VOCAB, order)
    assert math.isfinite(nats)
    assert math.isclose(nats, -np.log(KneserNey.fit(train, VOCAB, order).probabilities(text)).sum(), abs_tol=1e-9)
    if not len(text):
        assert nats == 0


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=30))
@example([2, *[3] * 9])  # the equation alone would take less than nothing from counts of two,
@example([3, *[4] * 9])  # and of three
def test_a_discount_takes_something_and_never_more_than_there_is(counts: list[int]) -> None:
    each = np.array(counts)
    level = Level.fit(np.arange(len(each)) * VOCAB, each, VOCAB, contexts=len(each))  # one n-gram after each context
    kept, freed = level.kept[:-1], level.freed[:-1]
    assert np.allclose(kept + freed, 1)
    assert ((kept >= 0) & (freed > 0)).all()
    assert (kept[each == 0] == 0).all()


def test_a_value_counted_by_hand() -> None:
    train = np.array([0, 1, 0, 1, 0, 2, 0, 1])
    # Pairs: 01 three times, 10 twice, 02 and 20 once: n1, n2, n3, n4 = 2, 1, 1, 0, raised by one 3, 2, 2, 1.
    y = 3 / (3 + 2 * 2)
    d1, d2, d3 = 1 - 2 * y * 2 / 3, 2 - 3 * y * 2 / 2, 3 - 4 * y * 1 / 2
    assert (d1, d2, d3) == pytest.approx((3 / 7, 5 / 7, 15 / 7))
    # Before 0 stand two different tokens, before 1 and 2 one, before 3 none: n1.. = 2, 1, 0, 0, raised 3, 2, 1, 1.
    e1, e2 = 3 / 7, 2 - 3 * (3 / 7) * 1 / 2
    freed = (e1 + e1 + e2) / 4
    unigram = [(2 - e2) / 4 + freed / 4, (1 - e1) / 4 + freed / 4, (1 - e1) / 4 + freed / 4, freed / 4]
    after_0 = [(d1 + d3) / 4 * p for p in unigram]  # 01 and 02
    after_0[1] += (3 - d3) / 4
    after_0[2] += (1 - d1) / 4
    after_1 = d2 / 2 * unigram[3]  # 10 only, and 13 never
    model = KneserNey.fit(train, vocab_size=4, order=2)
    for token in range(4):
        assert model.probabilities(np.array([0, token])) == pytest.approx([unigram[0], after_0[token]])
    assert model.probabilities(np.array([1, 3, 2])) == pytest.approx([unigram[1], after_1, unigram[2]])
    assert kneser_ney_nats(train, np.array([1, 3]), 4, order=2) == pytest.approx(-math.log(unigram[1] * after_1))


def test_the_lower_orders_count_what_stands_before_and_not_how_often() -> None:
    """Chen & Goodman's San Francisco: 1 is frequent, but always after 0; 2 is rare, after ten different tokens."""
    train = np.array([0, 1] * 50 + [token for other in range(3, 13) for token in (other, 2)])
    one, two = (KneserNey.fit(train, 13, order) for order in (1, 2))
    assert one.probabilities(np.array([1])) > 3 * one.probabilities(np.array([2]))
    assert two.probabilities(np.array([2])) > 3 * two.probabilities(np.array([1]))
    assert two.probabilities(np.array([0, 1]))[1] > 0.9  # in the highest order the raw counts speak


def test_an_order_longer_than_the_text_is_that_of_the_text() -> None:
    train, text = np.array([0, 1, 2, 0]), np.array([0, 1, 2, 0, 1])
    assert kneser_ney_nats(train, text, VOCAB, 1000) == kneser_ney_nats(train, text, VOCAB, 4)


def test_longer_contexts_pay_on_a_text_that_repeats() -> None:
    train = np.tile(np.array([0, 1, 0, 2, 0, 3, 0, 1, 1]), 200)
    costs = [kneser_ney_nats(train[:1500], train[1500:], VOCAB, order) for order in range(1, 9)]
    assert costs[:4] == sorted(costs[:4], reverse=True)  # four tokens tell where in the pattern one is
    assert max(costs) <= unigram_nats(train[:1500], train[1500:], VOCAB)
    assert max(costs[3:]) < 0.02 * costs[0]


def test_no_key_overflows_at_any_order_or_vocabulary_size() -> None:
    ids = np.random.default_rng(0).integers(0, 65_536, size=20_000, dtype=np.uint16)
    model = KneserNey.fit(ids, 65_536, order=8)  # 65,536^8 = 2^128
    assert all((np.diff(level.keys) > 0).all() for level in model.levels)
    assert max(level.keys.max() for level in model.levels) < len(ids) * 65_536
    assert sum(a.nbytes for level in model.levels for a in (level.keys, level.kept, level.freed)) < 8 * 24 * 20_010
    repeated = KneserNey.fit(np.tile(ids[:1000], 20), 65_536, order=8)
    assert -np.log(repeated.probabilities(ids[:1000])).mean() < 0.2 * math.log(65_536)  # it knows the text again


@pytest.mark.skipif(not TINYSHAKESPEARE.exists(), reason="GPTMODEL_MIRROR names no folder with tinyshakespeare.txt")
def test_tinyshakespeare_by_exact_position() -> None:
    text = TINYSHAKESPEARE.read_text(encoding="utf-8")
    ids = np.unique(np.array(list(text)), return_inverse=True)[1]
    cut = int(0.9 * len(ids))
    train, validation = ids[:cut], ids[cut:]
    for order, nats in {5: 1.5612, 6: 1.5226, 7: 1.5165}.items():
        assert kneser_ney_nats(train, validation, 65, order) / len(validation) == pytest.approx(nats, abs=0.0005)
