"""Stage `train` with values at their bounds: it trains or says one line, and what cannot fit is refused at once."""

from typing import Any

import pytest

from tests.support.places import Place
from tests.support.stage import MODEL

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def set_values(place: Place, **changes: Any) -> None:
    place.edit(lambda values: values["models"][MODEL].update(changes))


def test_what_cannot_fit_is_refused_before_anything_is_built(place: Place) -> None:
    set_values(place, n_embd=100_000)
    code, said = place.train()
    assert code == 2
    [line] = said
    assert line.startswith(f"error: params.yaml: models.{MODEL}: n_layer 1, n_embd 100000")
    assert "GB of memory" in line
    assert place.saved() == {}
    assert not (place.root / "models").exists()


def test_a_training_of_many_years_is_refused(place: Place) -> None:
    set_values(place, steps=10**9, batch_size=10**6)
    code, said = place.train()
    assert code == 2
    assert f"models.{MODEL}: 1,000,000,000 steps of 1,000,000 windows take at least" in said[-1]


def test_the_largest_seed_trains(place: Place) -> None:
    place.edit(lambda values: values.update(seed=2**63 - 1))
    place.finish()


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e30, "muon_learning_rate": 1e30},
        {"weight_decay": 1e30, "gradient_clip": 1e30, "beta2": 0.0},
        {"learning_rate": 1e-300, "muon_learning_rate": 1e-300, "gradient_clip": 1e-300},
    ],
    ids=str,
)
def test_rates_at_their_bounds_train_or_say_one_line(place: Place, changes: dict[str, float]) -> None:
    set_values(place, **changes)
    code, said = place.train()
    assert (code, len(said)) in {(0, 0), (2, 1)}, said


@pytest.mark.parametrize("temperature", [1e30, 1e-300])
def test_the_hottest_and_the_coldest_timeline_are_written(place: Place, temperature: float) -> None:
    place.edit(lambda values: values["timeline"].update(temperature=temperature))
    place.finish()
