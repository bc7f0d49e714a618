"""How sure a mean cost per character is: the circular block bootstrap over the text.

A text is one sample of its author's prose, and its characters are not independent: a rare word costs much in all its
letters, a dialogue little for a page. So what is drawn again is blocks of neighbouring characters, on a circle so that
every character is as likely; two models are compared over the same blocks (Politis & Romano 1992; Künsch 1989).

The intervals are about text like this one. They do not say what another book or another training seed would change, and
they are not corrected for many comparisons. Blocks are tenths of the text: the costs of neighbouring pages correlate
too, and shorter blocks would give intervals that are too narrow. Those of texts below some 5000 characters still are.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gptmodel.arrays import Floats

RESAMPLES = 4000
LEVEL = 0.95
BLOCKS = 10  # of a text, with Student's t for so few; why few is better: Kiefer & Vogelsang 2005
# How much wider an interval must be if its spread comes from ten blocks: Student's t with 9 degrees of freedom over the
# normal quantile, times sqrt(10 / 9) for an unbiased variance: 2.262157 / 1.959964 * sqrt(10 / 9) = 1.2166.
# This value has the t of two terms of the series 26.7.5 of Abramowitz & Stegun: recorded intervals were made with it.
WIDENING = 1.214592580416681


class Interval(NamedTuple):
    """A mean in bits per character and its 95 % interval."""

    bits_per_char: float
    low: float
    high: float


class Difference(NamedTuple):
    """The mean of a minus that of b in bits per character, its 95 % interval, and how certain its sign is.

    `certainty` is the share of resampled texts on which the difference has the sign that it has on the text itself
    (ties count half, and it is never below 0.5): 0.5 says nothing, and it is above 0.975 where the interval excludes 0.
    """

    bits_per_char: float
    low: float
    high: float
    certainty: float

    @property
    def is_real(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def interval(nats: ArrayLike, seed: int = 0) -> Interval:
    """Return the mean of `nats` (characters,) in bits per character, and the interval that covers it in 95 %.

    The same seed and length draw the same blocks. `ValueError` for fewer than two characters.

    >>> interval([math.log(2)] * 1000)
    Interval(bits_per_char=1.0, low=1.0, high=1.0)
    >>> mean, low, high = interval(np.arange(1000) % 2 * math.log(2))
    >>> round(mean, 9)
    0.5
    """
    bits = np.asarray(nats, dtype=np.float64) / math.log(2)
    low, high = np.quantile(_means(bits, seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(bits.mean()), float(low), float(high))


def paired(a: ArrayLike, b: ArrayLike, seed: int = 0) -> Difference:
    """Return how much more the same characters cost model `a` than `b`; both are nats (characters,).

    `ValueError` for fewer than two characters or for texts of different lengths.

    >>> paired([1.0, 2.0, 3.0] * 500, [1.0, 2.0, 3.0] * 500)
    Difference(bits_per_char=0.0, low=0.0, high=0.0, certainty=0.5)
    >>> paired([1.0, 2.0, 3.0] * 500, [1.5, 2.5, 3.5] * 500).certainty
    1.0
    """
    nats_a, nats_b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if nats_a.shape != nats_b.shape:
        raise ValueError(f"the texts differ: {nats_a.shape} and {nats_b.shape} characters")
    bits = (nats_a - nats_b) / math.log(2)
    mean = float(bits.mean())
    means = _means(bits, seed)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    agreeing = np.mean((np.sign(means) * np.sign(mean) + 1) / 2)
    return Difference(mean, float(low), float(high), max(0.5, float(agreeing)))


def _means(values: Floats, seed: int) -> Floats:
    """Return the mean of each resampled text, (RESAMPLES,), spread by `WIDENING`; memory: about four copies of it."""
    characters = len(values)
    if characters < 2:
        raise ValueError(f"{characters} characters have no spread: take at least two")
    length = max(1, characters // BLOCKS)
    blocks = characters // length
    mean = values.mean()
    ends = np.cumsum(np.concatenate(([0.0], values - mean, values[:length] - mean)))  # centred: small sums are exact
    sums = ends[length:] - ends[:-length]
    starts = np.random.default_rng(seed).integers(characters, size=(RESAMPLES, blocks))
    spread = sums[starts].sum(axis=1) / (blocks * length)
    return np.asarray(mean + spread * WIDENING, dtype=np.float64)
