import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.data.fitting import fit_char
from gptmodel.evaluation.baselines import Ladder, Rung, climb, rungs
from gptmodel.evaluation.surprisal import CharacterCosts
from tests.support.closure import PLACES, closure, imports

TRAIN = "abracadabra"
NAMING_NATS = math.log(1_112_064)  # one of all Unicode characters
TOKENIZER = fit_char(TRAIN, 1)  # <unk> a b c d r
VOCAB = 4
ids_of = st.lists(st.integers(0, VOCAB - 1), max_size=12).map(lambda ids: np.array(ids, dtype=np.uint16))


def cut(text: str) -> dict[str, str]:
    """Four fifths to learn from, a tenth each to validate and to test."""
    first, second = len(text) * 8 // 10, len(text) * 9 // 10
    return {"train": text[:first], "validation": text[first:second], "test": text[second:]}


def by_name(text: str, order: int) -> dict[str, np.ndarray]:
    """The probability of each character of `text` on each rung of TRAIN."""
    train_ids, ids = TOKENIZER.encode(TRAIN), TOKENIZER.encode(text)
    return {rung.name: rung.probabilities(ids) for rung in rungs(train_ids, TOKENIZER.vocab_size, order)}


def test_uniform_unigram_and_bigram_counted_by_hand() -> None:
    costs = by_name("abz", order=2)
    assert costs["uniform"] == pytest.approx([1 / 6] * 3)
    # a five times, b and r twice, c and d once, <unk> never; each plus one: 17
    assert costs["unigram"] == pytest.approx([6 / 17, 3 / 17, 1 / 17])
    # Pairs: ab br ra twice, ac ca ad da once: n1, n2 = 4, 3, raised by one 5, 4.
    d = 5 / (5 + 2 * 4)
    # Before a stand r c d, before each of b r c d one character, before <unk> none; each plus one: 4 2 2 2 2 1 of 13.
    b_after_a = (2 - d + 3 * d * 2 / 13) / 4  # a begins four pairs of three kinds: ab, ac, ad
    unknown_after_b = (0 + 1 * d * 1 / 13) / 2  # b begins two pairs of one kind
    assert costs["bigram"] == pytest.approx([6 / 17, b_after_a, unknown_after_b])


def test_kneser_ney_of_order_3_counted_by_hand() -> None:
    # Triples of a b r a c a d a b r a: abr bra twice; rac aca cad ada dab once. n1..n4 = 5, 2, 0, 0, raised 6, 3, 1, 1.
    y = 6 / (6 + 2 * 3)
    d1, d2 = 1 - 2 * y * 3 / 6, 2 - 3 * y * 1 / 3
    assert (d1, d2) == (0.5, 1.5)
    # Pairs count what stands before them: br ra ac ca ad da ab one character each (ab: d; nothing before the first).
    # n1..n4 = 7, 0, 0, 0, raised 8, 1, 1, 1: 8 / (8 + 2) = 0.8 is taken from each.
    e = 0.8
    # Characters: before a stand r c d; before b r c d one. n1..n4 = 4, 0, 1, 0, raised 5, 1, 2, 1: 5/7 from a count of
    # one; from three 3 - 4 * 5/7 * 1/2 = 11/7. They free (4 * 5/7 + 11/7) / 7 = 31/49 for the uniform 1/6.
    a = (3 - 11 / 7) / 7 + 31 / 49 / 6
    other = (1 - 5 / 7) / 7 + 31 / 49 / 6  # b, r, c, d
    never = 31 / 49 / 6  # <unk>
    assert a + 4 * other + never == pytest.approx(1)
    b_after_a = (1 - e) / 3 + 3 * e / 3 * other  # ab ac ad
    d_after_a = b_after_a
    r_after_b = (1 - e) / 1 + e * other  # br
    a_after_r = (1 - e) / 1 + e * a  # ra
    never_after_d = e * never  # da
    r_after_ab = (2 - d2) / 2 + d2 / 2 * r_after_b  # abr, twice
    a_after_br = (2 - d2) / 2 + d2 / 2 * a_after_r  # bra, twice
    d_after_ra = d1 * d_after_a  # rac, once
    never_after_ad = d1 * never_after_d  # ada, once
    by_hand = [a, b_after_a, r_after_ab, a_after_br, d_after_ra, never_after_ad]
    assert by_name("abradz", order=3)["kneser-ney-3"] == pytest.approx(by_hand)

    ladder = climb(TOKENIZER, {"train": TRAIN, "validation": "abrad", "test": "abradz"}, order=3)
    nats = -math.log(math.prod(by_hand[:5]))
    assert ladder.splits["validation"][-1].loss_nats == pytest.approx(nats / 5)
    assert ladder.splits["validation"][-1].bits_per_char == pytest.approx(nats / math.log(2) / 5)
    nats += -math.log(never_after_ad) + math.log(1_112_064)  # z also pays for its name
    assert ladder.splits["test"][-1].loss_nats == pytest.approx(nats / 6)


@settings(max_examples=40, deadline=None)
@given(train_ids=ids_of, context=ids_of, order=st.integers(1, 5))
def test_on_every_rung_the_probabilities_sum_to_one_and_exclude_nothing(
    train_ids: np.ndarray, context: np.ndarray, order: int
) -> None:
    climbed = list(rungs(train_ids, VOCAB, order))
    assert [rung.order for rung in climbed] == list(range(order + 1))
    for rung in climbed:
        after = [rung.probabilities(np.append(context, np.uint16(token)))[-1] for token in range(VOCAB)]
        assert math.isclose(sum(after), 1)
        assert min(after) > 0


@settings(max_examples=40, deadline=None)
@given(train_ids=ids_of, ids=ids_of, token=st.integers(0, VOCAB - 1))
def test_no_rung_sees_the_future(train_ids: np.ndarray, ids: np.ndarray, token: int) -> None:
    for rung in rungs(train_ids, VOCAB, 4):
        longer = rung.probabilities(np.append(ids, np.uint16(token)))
        assert longer[: len(ids)] == pytest.approx(rung.probabilities(ids))


def test_unknown_characters_pay_as_in_the_evaluation_of_networks() -> None:
    ids = TOKENIZER.encode("abzéa")
    rung = Rung("free", 0, lambda ids: np.ones(len(ids)))
    assert rung.nats(ids, TOKENIZER.unknown_id) == pytest.approx([0, 0, NAMING_NATS, NAMING_NATS, 0])
    assert rung.nats(ids, None).tolist() == [0] * 5


def test_the_best_rung_is_chosen_on_validation_and_not_on_test() -> None:
    noise = "".join(np.random.default_rng(0).choice(list("abc"), 300))
    texts = {"train": "abc" * 100, "validation": "abc" * 20, "test": noise}
    ladder = climb(fit_char("abc", 1), texts, order=4)
    on_test = min(ladder.splits["test"], key=lambda cost: cost.bits_per_char)
    assert on_test.name == "unigram"
    assert ladder.best == min(ladder.splits["validation"], key=lambda cost: cost.bits_per_char).name
    assert ladder.best == "bigram"  # one character before tells all
    for split, [_, _, bigram, *_] in ladder.splits.items():
        assert ladder.costs.nats[split].mean(dtype=float) == pytest.approx(bigram.loss_nats, rel=1e-6)


def test_longer_counts_pay_on_french_and_bytes_are_those_of_utf8(french: str) -> None:
    texts = cut(french)
    ladder = climb(fit_char(texts["train"], 1), texts, order=5)
    bits = [cost.bits_per_char for cost in ladder.splits["test"]]
    assert bits[:4] == sorted(bits[:4], reverse=True)
    characters, size = len(texts["test"]), len(texts["test"].encode())
    assert characters < size
    for cost in ladder.splits["test"]:
        assert cost.bits_per_byte * size == pytest.approx(cost.bits_per_char * characters)


def test_the_files_hold_the_ladder(tmp_path: Path, french: str) -> None:
    texts = cut(french)
    ladder = climb(fit_char(texts["train"], 1), texts, order=4)
    ladder.write(tmp_path)
    written = json.loads((tmp_path / "ladder.json").read_text(encoding="utf-8"))
    assert written["best"] == ladder.best
    assert list(written["splits"]) == ["validation", "test"]
    assert set(written["splits"]["test"][0]) == {"name", "order", "bits_per_char", "bits_per_byte", "loss_nats"}

    table = pd.read_csv(tmp_path / "ladder.csv")
    assert list(table) == ["name", "order", "validation_bits_per_char", "test_bits_per_char"]
    for split in ("validation", "test"):
        assert table["name"].tolist() == [rung["name"] for rung in written["splits"][split]]
        bits = [rung["bits_per_char"] for rung in written["splits"][split]]
        assert table[f"{split}_bits_per_char"].tolist() == pytest.approx(bits)

    costs = CharacterCosts.read(tmp_path / "surprisal.npz")
    for split in ("validation", "test"):
        [best] = [rung for rung in written["splits"][split] if rung["name"] == ladder.best]
        assert costs.nats[split].shape == (len(texts[split]),)
        assert costs.nats[split].mean(dtype=float) == pytest.approx(best["loss_nats"], rel=1e-6)
        assert costs.sha256[split] == hashlib.sha256(texts[split].encode()).hexdigest()


def names(ladder: Ladder, split: str) -> list[str]:
    return [cost.name for cost in ladder.splits[split]]


def test_a_split_without_text_is_left_out(tmp_path: Path) -> None:
    ladder = climb(TOKENIZER, {"train": TRAIN, "validation": "abra", "test": ""}, order=2)
    assert list(ladder.splits) == ["validation"]
    ladder.write(tmp_path)
    assert list(pd.read_csv(tmp_path / "ladder.csv")) == ["name", "order", "validation_bits_per_char"]
    assert list(CharacterCosts.read(tmp_path / "surprisal.npz").nats) == ["validation"]


def test_the_lowest_order_leaves_uniform_and_unigram() -> None:
    texts = {"train": TRAIN, "validation": "abra", "test": "cad"}
    assert names(climb(TOKENIZER, texts, order=1), "test") == ["uniform", "unigram"]
    assert names(climb(TOKENIZER, texts, order=2), "validation") == ["uniform", "unigram", "bigram"]


@pytest.mark.parametrize("train", ["a", "ab", TRAIN])
def test_texts_shorter_than_the_order_are_charged(train: str) -> None:
    ladder = climb(fit_char(train, 1), {"train": train, "validation": "a", "test": "ab"}, order=8)
    assert all(math.isfinite(cost.loss_nats) for costs in ladder.splits.values() for cost in costs)
    assert len(ladder.splits["test"]) == 9


def test_counting_needs_no_torch() -> None:
    members = closure(PLACES["gptmodel"] / "ladder.py")
    packages = {name.split(".")[0] for member in members for name in imports(member)} - set(sys.stdlib_module_names)
    assert "numpy" in packages
    assert "torch" not in packages
