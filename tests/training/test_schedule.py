"""Laws of the learning rate."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.params import Training
from gptmodel.training import schedule
from tests.support.training import CONFIG


@st.composite
def schedules(draw: st.DrawFn) -> Training:
    steps = draw(st.integers(1, 300))
    return CONFIG.model_copy(
        update={
            "steps": steps,
            "warmup_steps": draw(st.integers(0, steps - 1)),
            "warmdown": draw(st.floats(0.001, 1)),
            "schedule": draw(st.sampled_from(["linear", "cosine"])),
            "final_rate": draw(st.floats(0, 0.99)),
        }
    )


@settings(max_examples=200, deadline=None)
@given(config=schedules())
def test_the_rate_rises_stays_and_falls(config: Training) -> None:
    rates = [schedule.rate(step, config) for step in range(config.steps)]
    assert all(0 < rate <= 1 for rate in rates)
    warm, begin = config.warmup_steps, round(config.steps * (1 - config.warmdown))
    assert all(a < b for a, b in pairwise(rates[:warm]))
    assert all(rate == 1 for rate in rates[warm : begin + 1])
    falling = rates[max(warm, begin) :]
    assert all(a >= b for a, b in pairwise(falling))
    assert all(a > b for a, b in pairwise(falling[1:]))
    assert all(rate >= config.final_rate for rate in falling)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_rate_ends_near_the_final_one(shape: str) -> None:
    changes = {"steps": 1000, "warmdown": 0.6, "final_rate": 0.05, "schedule": shape}
    config = CONFIG.model_copy(update=changes)
    assert schedule.rate(999, config) == pytest.approx(0.05, abs=0.002)
    assert schedule.rate(700, config) == pytest.approx(0.525)  # half of the fall, in both shapes
    quarter = 0.2875 if shape == "linear" else 0.05 + 0.95 * (1 - math.sqrt(0.5)) / 2
    assert schedule.rate(850, config) == pytest.approx(quarter)


def test_a_cosine_over_all_steps_is_nanogpts() -> None:
    """As in karpathy/nanoGPT `train.py`, get_lr, with lr_decay_iters = max_iters."""
    config = CONFIG.model_copy(update={"steps": 200, "warmup_steps": 10, "warmdown": 1.0, "schedule": "cosine"})
    peak, lowest = 6e-4, 6e-5
    for step in range(200):
        if step < 10:
            expected = peak * (step + 1) / (10 + 1)
        else:
            expected = lowest + 0.5 * (1.0 + math.cos(math.pi * (step - 10) / (200 - 10))) * (peak - lowest)
        assert peak * schedule.rate(step, config) == pytest.approx(expected, rel=1e-12)
