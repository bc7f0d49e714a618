"""Which token comes next: logits and one uniform number per sequence give an id. Numpy only.

Sources: top-p is Holtzman et al. 2020 (arXiv:1904.09751), top-k Fan et al. 2018 (arXiv:1805.04833), the repetition
penalty Keskar et al. 2019 (arXiv:1909.05858, section 4.1).

Shape suffixes: B sequences, V vocabulary.
"""

import math
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gptmodel.arrays import Floats, Ints, Logits, Mask
from gptmodel.errors import UserError

RANDOM_SEEDS = 1 << 32  # few digits, to be typed again
STRONGEST = 1e9  # penalty; far beyond it scores overflow, and there is nothing to choose from
COLDEST = 1e-200  # temperatures below would overflow; at it all but the likeliest weigh 0 already


class InvalidSetting(UserError):
    """A setting of generation that makes no sense: its `field` as in Python, and the `reason` why not.

    >>> str(InvalidSetting("top_k", "must be 0 or above, not -1"))
    'top_k must be 0 or above, not -1'
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; `InvalidSetting` for a value that makes no sense.

    `temperature` 0 takes the likeliest token. `top_k` 0 and `top_p` 1 leave all tokens in the draw; with both, the
    nucleus is cut from the k likeliest. Above 1, `repetition_penalty` makes the tokens of the text so far less likely.
    """

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InvalidSetting("temperature", f"must be 0 (the likeliest token) or above, not {self.temperature}")
        if self.top_k < 0:
            raise InvalidSetting("top_k", f"must be 0 (all tokens) or above, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InvalidSetting("top_p", f"must be above 0 and at most 1 (all tokens), not {self.top_p}")
        if not 1 / STRONGEST <= self.repetition_penalty <= STRONGEST:
            reason = f"must be between {1 / STRONGEST:g} and {STRONGEST:g} (1: none), not {self.repetition_penalty}"
            raise InvalidSetting("repetition_penalty", reason)


def given_or_random(seed: int | None) -> int:
    """Return the seed; a random one for None."""
    return secrets.randbelow(RANDOM_SEEDS) if seed is None else seed


def sample_rng(seed: int, sample: int) -> np.random.Generator:
    """Return the stream of uniform numbers of one sequence: the same for the same seed and sample number, anywhere."""
    return np.random.default_rng([seed, sample])


def choose(
    logits_BV: Logits, sampling: Sampling, uniform_B: Floats, allowed_V: Mask | None = None, seen_BV: Mask | None = None
) -> Ints:
    """Return one token per sequence, by inverting the cumulative distribution at one uniform number for each.

    Only tokens of `allowed_V` (default: all) are taken; the repetition penalty applies to those of `seen_BV`. The
    distribution is accumulated in the order of the ids, in float64, so that rounding in the logits moves the
    thresholds by as little as itself and never reorders tokens. Equally likely tokens: the lower id comes first.

    >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], dtype=np.float32))
    >>> [int(choose(logits, Sampling(1.0), np.array([u]))[0]) for u in (0.05, 0.5, 0.75)]
    [0, 1, 2]
    >>> [int(choose(logits, Sampling(1.0, top_k=2), np.array([u]))[0]) for u in (0.05, 0.5, 0.75)]
    [1, 1, 2]
    >>> int(choose(logits, Sampling(0.0), np.array([0.99]), allowed_V=np.array([True, False, True]))[0])
    2
    >>> seen = np.array([[False, True, False]])
    >>> int(choose(logits, Sampling(0.0, repetition_penalty=3), np.array([0.0]), seen_BV=seen)[0])
    2
    """
    scores_BV: npt.NDArray[np.floating[Any]] = logits_BV
    if sampling.temperature > 0 or sampling.repetition_penalty != 1:
        scores_BV = logits_BV.astype(np.float64)
    if seen_BV is not None and sampling.repetition_penalty != 1:
        penalty = sampling.repetition_penalty
        scores_BV = np.where(seen_BV, np.where(scores_BV > 0, scores_BV / penalty, scores_BV * penalty), scores_BV)
    if allowed_V is not None:
        scores_BV = np.where(allowed_V, scores_BV, -np.inf)
    if sampling.temperature == 0:
        likeliest_B: Ints = scores_BV.argmax(axis=1)
        return likeliest_B
    divisor = max(sampling.temperature, COLDEST)
    weight_BV = np.exp((scores_BV - scores_BV.max(axis=1, keepdims=True)) / divisor)
    if sampling.top_k or sampling.top_p < 1:
        weight_BV = _keep_likeliest(weight_BV, sampling)
    mass_BV = weight_BV.cumsum(axis=1)
    chosen_B: Ints = (mass_BV <= uniform_B[:, None] * mass_BV[:, -1:]).sum(axis=1)
    last_B: Ints = weight_BV.shape[1] - 1 - (weight_BV[:, ::-1] > 0).argmax(axis=1)
    return np.minimum(chosen_B, last_B)  # uniform x mass may round up to the whole mass


def _keep_likeliest(weight_BV: Floats, sampling: Sampling) -> Floats:
    """Return the weights with those outside the k likeliest, then outside the nucleus, set to 0.

    Of equals at the edge the lower ids stay.
    """
    sorted_BV = -np.sort(-weight_BV, axis=1)
    if sampling.top_k:
        sorted_BV[:, sampling.top_k :] = 0
    mass_BV = sorted_BV.cumsum(axis=1)
    inside_BV = mass_BV - sorted_BV < sampling.top_p * mass_BV[:, -1:]  # the likeliest has nothing before it
    if sampling.top_p == 1:
        inside_BV[:] = True
    if sampling.top_k:
        inside_BV[:, sampling.top_k :] = False
    kept_B = inside_BV.sum(axis=1)
    edge_B1 = sorted_BV[np.arange(len(kept_B)), kept_B - 1][:, None]
    at_least_BV = weight_BV >= edge_B1
    if np.array_equal(at_least_BV.sum(axis=1), kept_B):  # mostly: no equals beyond the edge
        return np.where(at_least_BV, weight_BV, 0.0)
    equal_BV, above_BV = weight_BV == edge_B1, weight_BV > edge_B1
    places_B1 = kept_B[:, None] - above_BV.sum(axis=1, keepdims=True)
    return np.where(above_BV | (equal_BV & (equal_BV.cumsum(axis=1) <= places_B1)), weight_BV, 0.0)
