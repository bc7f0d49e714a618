"""The laws of the bootstrap: it covers what it says, pairs what belongs together, and needs little time."""

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from gptmodel.evaluation import bootstrap
from gptmodel.evaluation.bootstrap import interval, paired

LN2 = math.log(2)


def prose(rng: np.random.Generator, characters: int, persistence: float) -> NDArray[np.float64]:
    """An AR(1) series of mean 2 bits, in nats: x[t] = persistence x[t-1] + noise, begun in its stationary law."""
    noise = rng.standard_normal(characters) * math.sqrt(1 - persistence**2)
    noise[0] /= math.sqrt(1 - persistence**2)
    powers = persistence ** np.arange(400)
    return (2 + np.convolve(noise, powers)[:characters]) * LN2


def coverage(texts: int, characters: int, persistence: float) -> float:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(texts):
        _, low, high = interval(prose(rng, characters, persistence))
        hits += low <= 2 <= high
    return hits / texts


@pytest.mark.parametrize("persistence", [0.0, 0.9, 0.98])
def test_intervals_of_95_percent_cover_the_truth_in_about_95_percent(persistence: float) -> None:
    assert 0.92 <= coverage(500, 14_600, persistence) <= 0.98  # 500 texts: 95 % +- 2 % (two standard errors)


def test_short_blocks_would_not_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BLOCKS", 14_600 // 30)
    assert coverage(40, 14_600, 0.98) < 0.75


def test_the_width_is_that_of_independent_characters_where_they_are() -> None:
    noise = np.random.default_rng(2).standard_normal((40, 15_000))
    widths = [high - low for _, low, high in map(interval, noise * LN2)]
    student = 2 * 2.262 / math.sqrt(15_000)  # t for 10 blocks
    assert np.mean(widths) == pytest.approx(student, rel=0.05)


def test_pairing_removes_what_two_models_share() -> None:
    rng = np.random.default_rng(3)
    text = prose(rng, 14_600, 0.98)
    a, b = (text + 0.05 * LN2 * rng.standard_normal(len(text)) for _ in range(2))
    b = b + 0.02 * LN2
    difference = paired(a, b)
    assert difference.bits_per_char == pytest.approx(-0.02, abs=0.002)
    assert difference.low < -0.02 < difference.high < 0
    assert difference.certainty == 1
    assert difference.is_real
    low, high = interval(a)[1:]
    assert difference.high - difference.low < (high - low) / 20


def test_the_other_way_round_is_the_same_with_the_other_sign() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.exponential(1.4, (2, 5000))
    there, back = paired(a, b), paired(b, a)
    assert back == pytest.approx((-there.bits_per_char, -there.high, -there.low, there.certainty))


def test_a_difference_is_the_interval_of_the_differences_and_certain_where_that_excludes_zero() -> None:
    rng = np.random.default_rng(5)
    seen = set()
    for shift in np.linspace(0, 0.2, 21):
        a, b = rng.exponential(1.4, (2, 3000))
        difference = paired(a + shift, b)
        assert difference[:3] == interval(a + shift - b)
        assert 0.5 <= difference.certainty <= 1
        assert difference.is_real == (difference.certainty > 0.975)
        seen.add(difference.is_real)
    assert seen == {False, True}


def test_the_certainty_is_the_share_of_resamples_with_the_sign_and_ties_count_half() -> None:
    assert paired(np.ones(50), np.ones(50)) == (0, 0, 0, 0.5)
    # drawn twice from the differences 1 and -0.5, the sum is negative only where both are -0.5
    assert paired([1.0, 0.0], [0.0, 0.5]).certainty == pytest.approx(3 / 4, abs=0.03)
    assert paired([0.0, 0.5], [1.0, 0.0]).certainty == pytest.approx(3 / 4, abs=0.03)


def test_the_widening_is_that_of_students_t() -> None:
    assert pytest.approx(2.262157 / 1.959964 * math.sqrt(10 / 9), abs=0.0025) == bootstrap.WIDENING


def test_resampled_texts_are_blocks_on_a_circle_by_hand() -> None:
    text = np.arange(20.0)  # ten blocks of two neighbours: sums 1, 3, .., 37, and 19 + 0 across the end
    means = bootstrap._means(text, seed=0)
    starts = np.random.default_rng(0).integers(20, size=(bootstrap.RESAMPLES, 10))
    expected = (text[starts] + text[(starts + 1) % 20]).sum(axis=1) / 20
    assert means == pytest.approx(9.5 + (expected - 9.5) * bootstrap.WIDENING)


def test_the_same_text_gives_the_same_interval_whatever_its_type() -> None:
    nats = np.random.default_rng(6).exponential(1.4, 4321).astype(np.float32)
    assert interval(nats) == interval(nats.astype(np.float64)) == interval(nats.tolist())
    assert interval(nats) != interval(nats, seed=1)
    assert interval(nats).bits_per_char == pytest.approx(float(nats.mean(dtype=float)) / LN2)


@pytest.mark.parametrize("characters", [2, 3, 9, 10, 11, 19, 20, 21, 101])
def test_short_texts_have_an_interval_around_their_mean(characters: int) -> None:
    mean, low, high = interval(np.random.default_rng(7).exponential(1.4, characters))
    assert low < mean < high


def test_a_text_without_spread_and_texts_that_differ_are_refused() -> None:
    for characters in (0, 1):
        with pytest.raises(ValueError, match=f"{characters} characters have no spread"):
            interval(np.ones(characters))
    with pytest.raises(ValueError, match="texts differ"):
        paired(np.ones(10), np.ones(11))


@pytest.mark.parametrize(("characters", "seconds"), [(15_000, 0.05), (1_000_000, 1.0)])
def test_it_is_fast(characters: int, seconds: float) -> None:
    nats = np.random.default_rng(8).exponential(1.4, characters).astype(np.float32)

    def took() -> float:
        start = time.process_time()
        interval(nats)
        return time.process_time() - start

    assert min(took() for _ in range(3)) < seconds
