import itertools
import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.data.fitting import fit_bpe, fit_char, fit_word
from gptmodel.evaluation.breakdown import CLASSES, breakdown, by_class, by_position, character_class, passages

BOOK = "Il était une fois un chat, l'ami d'un vieux meunier.\nEn 1832, dit-il ; « Là-bas », répondit le chat.\n" * 12
TOKENIZERS = {"char": fit_char(BOOK, 1), "word": fit_word(BOOK, 700, 2), "bpe": fit_bpe(BOOK, 300)}
laws = settings(max_examples=60, deadline=None)


def costs_of(tokens: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 9, size=tokens)


@pytest.mark.parametrize("level", TOKENIZERS)
def test_each_part_adds_up_to_the_whole(level: str) -> None:
    tokenizer = TOKENIZERS[level]
    ids = tokenizer.encode(BOOK)
    nats = costs_of(len(ids))
    parts = breakdown("test", tokenizer, ids, nats, BOOK, context=16, fingerprint="f00d")
    assert parts.split == "test"
    positions, classes = parts.by_position, parts.by_class
    assert sum(row.tokens for row in positions) == len(ids) - 1
    assert sum(row.tokens * row.nats_per_token for row in positions) == pytest.approx(nats[1:].sum())
    characters = [row.tokens * row.nats_per_token / math.log(2) / row.bits_per_char for row in positions]
    assert sum(characters) == pytest.approx(len(BOOK), abs=10)  # all but the first token's
    assert sum(row.characters for row in classes) == len(BOOK)
    assert sum(row.share for row in classes) == pytest.approx(1)
    assert sum(row.share_of_bits for row in classes) == pytest.approx(1)
    assert sum(row.characters * row.bits_per_char for row in classes) == pytest.approx(nats.sum() / math.log(2))


@laws
@given(tokens=st.integers(2, 80), context=st.integers(1, 300))
def test_a_token_is_filed_under_the_number_of_tokens_that_it_saw(tokens: int, context: int) -> None:
    seen = np.array([0, *((place - 1) % context + 1 for place in range(1, tokens))])
    rows = by_position(seen * 1.0, seen + 1.0, context)
    assert rows[0].first == 1
    assert rows[-1].last <= context
    for row, following in itertools.pairwise(rows):
        assert following.first == row.last + 1
    for row in rows:
        inside = seen[(seen >= row.first) & (seen <= row.last)]
        assert row.first <= row.tokens_seen <= row.last
        assert math.log(row.tokens_seen) == pytest.approx((math.log(row.first) + math.log(row.last)) / 2)
        assert row.tokens == len(inside)
        assert row.nats_per_token == pytest.approx(inside.mean())
        assert row.bits_per_char == pytest.approx(inside.sum() / math.log(2) / (inside + 1).sum())


def test_a_text_of_one_token_has_no_positions() -> None:
    assert by_position(np.ones(1), np.ones(1), context=8) == []


def test_the_bins_are_few_and_reach_the_context() -> None:
    for context in [1, 7, 64, 128, 4096]:
        rows = by_position(np.ones(2 * context + 1), np.ones(2 * context + 1), context)
        assert rows[-1].last == context
        assert len(rows) <= 26
        assert all(row.last <= 1.5 * row.first for row in rows)


@laws
@given(character=st.characters(exclude_categories=["Cs"]))
def test_every_character_has_one_class(character: str) -> None:
    kind = character_class(character)
    assert kind in CLASSES
    category = unicodedata.category(character)
    if kind == "capitals":
        assert category in ("Lu", "Lt")
    if kind in ("letters", "accents"):
        assert category in ("Ll", "Lm", "Lo") or category[0] == "M"
    if kind in ("spaces", "line breaks"):
        assert character.isspace()


def test_the_classes_are_those_of_a_french_reader() -> None:
    expected = {
        "letters": "azœæß漢",
        "capitals": "AZÉÀŒǅ",
        "accents": "éèàçïûñ\u0301",
        "spaces": " \t\u00a0\u202f",
        "line breaks": "\n\r\u2028",
        "punctuation": ".,;:!?…«»—-'’_(",
        "digits": "07²½",
        "other": "€+=°👩\u200d",
    }
    for kind, characters in expected.items():
        assert {character: character_class(character) for character in characters} == dict.fromkeys(characters, kind)


def test_the_costs_of_a_class_are_its_characters_costs() -> None:
    rows = by_class("Aé a\n", math.log(2) * np.array([8.0, 3.0, 1.0, 2.0, 2.0]))
    assert [row.name for row in rows] == ["letters", "capitals", "accents", "spaces", "line breaks"]
    assert [row.bits_per_char for row in rows] == pytest.approx([2, 8, 3, 1, 2])
    assert [row.share_of_bits for row in rows] == pytest.approx([2 / 16, 8 / 16, 3 / 16, 1 / 16, 2 / 16])


@laws
@given(text=st.lists(st.sampled_from(["a", "chat", " ", "\n", "b" * 130, "é!"]), min_size=1, max_size=150).map("".join))
def test_passages_lie_one_after_the_other_and_end_at_white_space(text: str) -> None:
    costs, end = costs_of(len(text)), 0
    for passage in passages(text, costs):
        assert passage.start == end
        end += len(passage.text)
        assert passage.text == text[passage.start : end]
        assert 1 <= len(passage.text) <= 120
        at_white_space = end == len(text) or text[end - 1].isspace()
        assert at_white_space or not any(character.isspace() for character in passage.text)
        assert passage.bits_per_char == pytest.approx(costs[passage.start : end].mean() / math.log(2))
    assert len(text) - end < 60


def test_passages_are_as_long_as_they_can_be_and_a_short_rest_is_no_passage() -> None:
    lengths = {
        "un\n" * 100: [120, 120, 60],
        "un\n" * 99: [120, 120],
        "chat " * 30: [120],
        "c" * 300: [120, 120, 60],
        "chat": [4],
    }
    for text, expected in lengths.items():
        assert [len(passage.text) for passage in passages(text, np.ones(len(text)))] == expected


def test_the_worst_and_the_best_passages_are_found() -> None:
    tokenizer, text = TOKENIZERS["char"], "le vieux chat du meunier dit " * 60
    ids = tokenizer.encode(text)
    nats = np.ones(len(text))
    nats[500:520], nats[900:920] = 7, 0.1
    parts = breakdown("validation", tokenizer, ids, nats, text, context=64, fingerprint="f00d")
    worst, best = parts.worst, parts.best
    assert len(worst) == len(best) == 3
    assert worst[0].start <= 500 < worst[0].start + len(worst[0].text)
    assert best[0].start <= 900 < best[0].start + len(best[0].text)
    bits = [passage.bits_per_char for passage in [*worst, *best[::-1]]]
    assert bits == sorted(bits, reverse=True)


def test_a_short_text_is_one_passage() -> None:
    tokenizer = TOKENIZERS["word"]
    ids = tokenizer.encode("un chat")
    parts = breakdown("test", tokenizer, ids, costs_of(len(ids)), "un chat", context=64, fingerprint="f00d")
    assert [passage.text for passage in parts.worst] == ["un chat"]
    assert parts.best == parts.worst
