"""Which model is better: the statistics. Where costs come from is tested with `tracking`, the command with `cli`."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from gptmodel.errors import UserError
from gptmodel.evaluation import comparison
from gptmodel.evaluation.bootstrap import interval, paired
from gptmodel.evaluation.comparison import FILE
from gptmodel.evaluation.surprisal import CharacterCosts
from gptmodel.results.comparison import Comparison

LN2 = np.log(2)
COMMON = np.random.default_rng(0).exponential(2.0, 6000)  # bits: what is hard for one model is hard for all
OWN = np.random.default_rng(1).standard_normal((9, 6000))
OWN -= OWN.mean(axis=1, keepdims=True)


def costs(extra_bits: float, model: int = 0, text: str = "a" * 6000) -> CharacterCosts:
    """Return costs of a `model` that needs `extra_bits` per character over the common ones, noisily."""
    bits = COMMON + extra_bits + 0.3 * OWN[model]
    return CharacterCosts.of({"validation": bits[:100] * LN2, "test": bits * LN2}, {"validation": "v", "test": text})


GOOD, ALIKE, BAD, BASELINES = costs(0.0, 0), costs(0.001, 1), costs(0.05, 2), costs(0.5, 3)


def test_the_best_comes_first_with_its_interval_and_every_pair_is_judged() -> None:
    given = {"baselines": BASELINES, "bad": BAD, "good": GOOD, "alike": ALIKE}
    found = comparison.compare(given, "test")
    assert (found.split, found.characters) == ("test", 6000)
    assert found.sha256 == hashlib.sha256(b"a" * 6000).hexdigest()
    assert [model.name for model in found.models] == ["good", "alike", "bad", "baselines"]
    for model in found.models:
        assert (model.bits_per_char, model.low, model.high) == interval(given[model.name].nats["test"])
        assert model.low < model.bits_per_char < model.high
    sentences = [comparison.sentence(pair) for pair in found.pairs]
    assert len(sentences) == 6
    assert sentences[0].startswith("no real difference between good and alike: 0.001 (-0.")
    assert sentences[1].startswith("good is better than bad by 0.050 bits/char (0.0")
    assert sentences[2].startswith("good is better than baselines by 0.500 bits/char (0.4")
    assert sentences[5].startswith("bad is better than baselines by 0.450 bits/char (0.4")
    assert all(sentence.endswith(", certain") for sentence in sentences[1:])


def test_a_pair_is_the_paired_difference_of_the_better_to_the_other() -> None:
    given = {"bad": BAD, "good": GOOD}
    [pair] = comparison.pairs(given, "test")
    assert (pair.a, pair.b) == ("good", "bad")
    difference = paired(GOOD.nats["test"], BAD.nats["test"])
    assert (pair.bits_per_char, pair.low, pair.high, pair.certainty) == difference
    assert pair.is_real == difference.is_real
    good, bad = (model.bits_per_char for model in comparison.models(given, "test"))
    assert pair.bits_per_char == pytest.approx(good - bad)
    assert pair.low < pair.bits_per_char < pair.high < 0
    assert pair.certainty == 1


def test_a_difference_that_chance_explains_is_not_real() -> None:
    [pair] = comparison.pairs({"good": GOOD, "alike": ALIKE}, "test")
    assert pair.low < 0 < pair.high
    assert not pair.is_real


def test_pairs_are_ordered_by_cost_whatever_the_order_of_the_models() -> None:
    given = {"c": costs(0.2, 0), "a": costs(0.1, 1), "b": costs(0.0, 2)}
    found = comparison.pairs(given, "test")
    assert [(pair.a, pair.b) for pair in found] == [("b", "a"), ("b", "c"), ("a", "c")]
    assert found == comparison.pairs(dict(reversed(given.items())), "test")
    assert comparison.pairs({"c": given["c"]}, "test") == []


def test_a_model_and_its_copy_are_equal_and_nothing_is_certain() -> None:
    [pair] = comparison.pairs({"good": GOOD, "copy": GOOD}, "test")
    assert (pair.bits_per_char, pair.certainty, pair.is_real) == (0, 0.5, False)


def test_the_other_split_can_be_compared() -> None:
    assert comparison.compare({"good": GOOD, "bad": BAD}, "validation").characters == 100


def test_different_texts_are_refused_by_name() -> None:
    given = {"good": GOOD, "bad": BAD, "other": costs(0.0, 0, "b" * 6000)}
    with pytest.raises(UserError) as caught:
        comparison.compare(given, "test")
    first, second = (hashlib.sha256(letter * 6000).hexdigest()[:12] for letter in (b"a", b"b"))
    assert f"good on {first} (6,000 characters) and other on {second} (6,000 characters)" in str(caught.value)
    assert "bad" not in str(caught.value)


def test_a_split_that_a_model_was_not_scored_on_is_refused() -> None:
    only = CharacterCosts.of({"validation": OWN[0]}, {"validation": "v"})
    with pytest.raises(UserError, match="new was scored on validation, not on test"):
        comparison.compare({"good": GOOD, "new": only}, "test")


def test_costs_are_read_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{FILE} does not exist"):
        comparison.read(tmp_path)
    GOOD.write(tmp_path / FILE)
    read = comparison.read(tmp_path)
    assert np.array_equal(read.nats["test"], GOOD.nats["test"])
    assert read.sha256 == GOOD.sha256


def test_a_comparison_can_be_written_and_read(tmp_path: Path) -> None:
    found = comparison.compare({"good": GOOD, "bad": BAD}, "test")
    found.write(tmp_path / "comparison.json")
    assert Comparison.read(tmp_path / "comparison.json") == found
