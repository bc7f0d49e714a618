"""How a token is chosen: laws of `choose` and of the settings that it takes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gptmodel.arrays import Floats, Logits
from gptmodel.decoding.sampling import InvalidSetting, Sampling, choose

LOGITS = arrays.arrays(np.float32, (3, 7), elements=st.floats(-30, 30, width=32))
UNIFORM = arrays.arrays(np.float64, (3,), elements=st.floats(0, 1, exclude_max=True))


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
def test_sampling_values_that_make_no_sense_are_named(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting) as error:
        Sampling(**values)
    assert error.value.field == list(values)[-1]


@settings(max_examples=50, deadline=None)
@given(LOGITS, UNIFORM, st.integers(0, 8), st.floats(0.01, 1), st.floats(0.05, 5), st.integers(0, 6))
def test_only_the_k_likeliest_of_the_nucleus_are_ever_drawn(
    logits: Logits, uniform: Floats, top_k: int, top_p: float, temperature: float, banned: int
) -> None:
    drawn = choose(logits, Sampling(temperature, top_k, top_p), uniform, np.arange(7) != banned)
    for row, token in zip(logits.astype(np.float64), drawn, strict=True):
        row[banned] = -np.inf
        weight = np.exp((row - row.max()) / temperature)
        order = np.argsort(-weight, kind="stable")[: top_k or None]
        share = weight[order] / weight[order].sum()
        nucleus = order[np.cumsum(share) - share < top_p + 1e-12]
        assert token in nucleus
        assert token != banned


def test_the_uniform_numbers_are_shared_out_as_the_probabilities() -> None:
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
def test_choosing_among_equals_is_what_sorting_everything_gives(
    logits: Logits, uniform: Floats, top_k: int, top_p: float
) -> None:
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


def test_seen_tokens_pay_the_penalty_whatever_their_sign() -> None:
    logits = np.array([[2.0, -2.0, 1.1, -2.9]], dtype=np.float32)
    seen = np.array([[True, True, False, False]])
    shares = {}
    for penalty in (1.0, 2.0):
        uniform = (np.arange(100_000) + 0.5) / 100_000
        drawn = choose(np.repeat(logits, 100_000, 0), Sampling(1.0, repetition_penalty=penalty), uniform, None, seen)
        shares[penalty] = np.bincount(drawn, minlength=4) / 100_000
    expected = np.exp([[2.0, -2.0, 1.1, -2.9], [1.0, -4.0, 1.1, -2.9]])
    assert np.allclose(list(shares.values()), expected / expected.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-6])
def test_no_temperature_is_the_likeliest_token(temperature: float) -> None:
    logits = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 4.0]], dtype=np.float32)
    assert choose(logits, Sampling(temperature), np.array([0.9, 0.0])).tolist() == [1, 0]
