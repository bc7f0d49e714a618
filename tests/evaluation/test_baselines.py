import hashlib
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel import memory
from gptmodel.data.fitting import fit_char
from gptmodel.errors import UserError
from gptmodel.evaluation.baselines import Baseline, Counted, baselines, check_memory, count, least_bytes
from gptmodel.evaluation.kneser_ney import KneserNey
from gptmodel.evaluation.surprisal import FILE, CharacterCosts
from gptmodel.results.corpus import SplitName
from gptmodel.results.evaluation import Baselines, Scored
from tests.support.datasets import in_memory

TRAIN = "abracadabra"
NAMING_NATS = math.log(1_112_064)  # one of all Unicode characters
TOKENIZER = fit_char(TRAIN, 1)  # <unk> a b c d r
VOCAB = 4
ids_of = st.lists(st.integers(0, VOCAB - 1), max_size=12).map(lambda ids: np.array(ids, dtype=np.uint16))


def cut(text: str) -> dict[SplitName, str]:
    """Four fifths to learn from, a tenth each to validate and to test."""
    first, second = len(text) * 8 // 10, len(text) * 9 // 10
    return {"train": text[:first], "validation": text[first:second], "test": text[second:]}


def counted(train: str, validation: str, test: str, order: int) -> Counted:
    """Fit the characters of `train`, encode and count."""
    texts: dict[SplitName, str] = {"train": train, "validation": validation, "test": test}
    return count(in_memory(fit_char(train, 1), texts), texts, order)


def by_name(text: str, order: int) -> dict[str, np.ndarray]:
    """The probability of each character of `text` by each baseline of TRAIN."""
    train_ids, ids = TOKENIZER.encode(TRAIN), TOKENIZER.encode(text)
    return {
        baseline.name: baseline.probabilities(ids) for baseline in baselines(train_ids, TOKENIZER.vocab_size, order)
    }


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

    splits = counted(TRAIN, "abrad", "abradz", order=3).scores.splits
    nats = -math.log(math.prod(by_hand[:5]))
    assert splits["validation"][-1].loss_nats == pytest.approx(nats / 5)
    assert splits["validation"][-1].bits_per_char == pytest.approx(nats / math.log(2) / 5)
    nats += -math.log(never_after_ad) + math.log(1_112_064)  # z also costs its name
    assert splits["test"][-1].loss_nats == pytest.approx(nats / 6)


@settings(max_examples=40, deadline=None)
@given(train_ids=ids_of, context=ids_of, order=st.integers(1, 5))
def test_by_every_baseline_the_probabilities_sum_to_one_and_exclude_nothing(
    train_ids: np.ndarray, context: np.ndarray, order: int
) -> None:
    found = list(baselines(train_ids, VOCAB, order))
    assert [baseline.order for baseline in found] == list(range(order + 1))
    for baseline in found:
        after = [baseline.probabilities(np.append(context, np.uint16(token)))[-1] for token in range(VOCAB)]
        assert math.isclose(sum(after), 1)
        assert min(after) > 0


@settings(max_examples=40, deadline=None)
@given(train_ids=ids_of, ids=ids_of, token=st.integers(0, VOCAB - 1))
def test_no_baseline_sees_the_future(train_ids: np.ndarray, ids: np.ndarray, token: int) -> None:
    for baseline in baselines(train_ids, VOCAB, 4):
        longer = baseline.probabilities(np.append(ids, np.uint16(token)))
        assert longer[: len(ids)] == pytest.approx(baseline.probabilities(ids))


def test_unknown_characters_cost_as_in_the_evaluation_of_networks() -> None:
    ids = TOKENIZER.encode("abzéa")
    certain = Baseline("certain", 0, lambda ids: np.ones(len(ids)))
    assert certain.nats(ids, TOKENIZER.unknown_id) == pytest.approx([0, 0, NAMING_NATS, NAMING_NATS, 0])
    assert certain.nats(ids, None).tolist() == [0] * 5


def test_the_best_baseline_is_chosen_on_validation_and_not_on_test() -> None:
    noise = "".join(np.random.default_rng(0).choice(list("abc"), 300))
    found = counted("abc" * 100, "abc" * 20, noise, order=4)
    splits = found.scores.splits
    assert min(splits["test"], key=lambda score: score.bits_per_char).name == "unigram"
    assert found.scores.best == min(splits["validation"], key=lambda score: score.bits_per_char).name
    assert found.scores.best == "bigram"  # one character before tells all
    for split, [_, _, bigram, *_] in splits.items():
        assert found.scores.best_on(split) == bigram
        assert found.costs.nats[split].mean(dtype=float) == pytest.approx(bigram.loss_nats, rel=1e-6)


def test_longer_counts_help_on_french_and_bytes_are_those_of_utf8(french: str) -> None:
    texts = cut(french)
    scores = count(in_memory(fit_char(texts["train"], 1), texts), texts, order=5).scores.splits["test"]
    bits = [score.bits_per_char for score in scores]
    assert bits[:4] == sorted(bits[:4], reverse=True)
    characters, size = len(texts["test"]), len(texts["test"].encode())
    assert characters < size
    for score in scores:
        assert score.bits_per_byte * size == pytest.approx(score.bits_per_char * characters)


def test_the_ids_are_those_that_the_stage_encode_wrote() -> None:
    """They are not encoded again: other ids give other scores."""
    texts: dict[SplitName, str] = {"train": TRAIN, "validation": "abra", "test": ""}
    data = in_memory(TOKENIZER, texts)
    data.ids["validation"][:] = 0  # <unk>
    [uniform, *_] = count(data, texts, order=1).scores.splits["validation"]
    assert uniform.loss_nats == pytest.approx(math.log(TOKENIZER.vocab_size) + NAMING_NATS)


def test_the_files_hold_what_was_counted(tmp_path: Path, french: str) -> None:
    texts = cut(french)
    found = count(in_memory(fit_char(texts["train"], 1), texts), texts, order=4)
    found.write(tmp_path)
    written = Baselines.read(tmp_path / "baselines.json")
    assert written == found.scores
    assert list(written.splits) == ["validation", "test"]
    assert {score.kind for scores in written.splits.values() for score in scores} == {"static"}

    table = pd.read_csv(tmp_path / "baselines.csv")
    assert list(table) == ["name", "order", "validation_bits_per_char", "test_bits_per_char"]
    costs = CharacterCosts.read(tmp_path / FILE)
    for split, scores in written.splits.items():
        assert table["name"].tolist() == [score.name for score in scores]
        bits = [score.bits_per_char for score in scores]
        assert table[f"{split}_bits_per_char"].tolist() == pytest.approx(bits)
        assert costs.nats[split].shape == (len(texts[split]),)
        assert costs.nats[split].mean(dtype=float) == pytest.approx(written.best_on(split).loss_nats, rel=1e-6)
        assert costs.sha256[split] == hashlib.sha256(texts[split].encode()).hexdigest()


def names(found: Counted, split: Scored) -> list[str]:
    return [score.name for score in found.scores.splits[split]]


def test_a_split_without_text_is_left_out(tmp_path: Path) -> None:
    found = counted(TRAIN, "abra", "", order=2)
    assert list(found.scores.splits) == ["validation"]
    found.write(tmp_path)
    assert list(pd.read_csv(tmp_path / "baselines.csv")) == ["name", "order", "validation_bits_per_char"]
    assert list(CharacterCosts.read(tmp_path / FILE).nats) == ["validation"]


def test_the_lowest_order_leaves_uniform_and_unigram() -> None:
    assert names(counted(TRAIN, "abra", "cad", order=1), "test") == ["uniform", "unigram"]
    assert names(counted(TRAIN, "abra", "cad", order=2), "validation") == ["uniform", "unigram", "bigram"]


@pytest.mark.parametrize("train", ["a", "ab", TRAIN])
def test_texts_shorter_than_the_order_are_scored(train: str) -> None:
    splits = counted(train, "a", "ab", order=8).scores.splits
    assert all(math.isfinite(score.loss_nats) for scores in splits.values() for score in scores)
    assert len(splits["test"]) == 9


def test_counting_needs_no_torch() -> None:
    code = "import sys; from gptmodel.evaluation import baselines; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("order", [1, 8, 40])
def test_counting_a_text_takes_at_least_the_memory_that_is_said(french: str, order: int) -> None:
    ids = fit_char(french, 1).encode(french)
    KneserNey.fit(ids, 200, order)
    tracemalloc.start()
    KneserNey.fit(ids, 200, order)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert least_bytes(len(ids), order) <= peak


def test_an_order_beyond_the_memory_is_refused_before_anything_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "FACTS", tmp_path / "meminfo")
    memory.FACTS.write_text("MemTotal: 24000000 kB\n")
    check_memory(100_000_000, 20)
    with pytest.raises(
        UserError, match=r"^params\.yaml: baselines\.order: 100 with 20,000,000 .* 39 GB .* 25 GB: lower"
    ):
        check_memory(20_000_000, 100)
