import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gptmodel import params
from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer, naming_nats
from gptmodel.evaluation import inspection, internals, weights
from gptmodel.model.loss import token_nats
from gptmodel.results.corpus import SplitName
from gptmodel.results.evaluation import InspectedPassage, Inspection
from tests.support.bundles import chain, random_network
from tests.support.datasets import in_memory
from tests.support.networks import CONTEXT, GPT_KINDS

ROMAN = (Path(__file__).parents[1] / "fixtures" / "roman.txt").read_text(encoding="utf-8")
TRAIN, TEST = ROMAN[:5000], ROMAN[5000:] + "\nUn Ω que l'entraînement ne connaît pas.\n"
LEVELS = {
    "char": fitting.fit_char(TRAIN, min_count=1),
    "word": fitting.fit_word(TRAIN, vocab_size=700, min_count=2),
    "bpe": fitting.fit_bpe(TRAIN, vocab_size=300),
}
CHARACTERS = 300


def built(kind: str, level: str, test: str = TEST, characters: int = CHARACTERS, tokens: int = 10) -> Inspection:
    """Inspect a random network; `test` may be empty."""
    texts: dict[SplitName, str] = {"train": TRAIN, "validation": TEST[::-1], "test": test}
    settings = params.Inspection.model_construct(passage_characters=characters, attention_tokens=tokens)
    network = random_network(kind, LEVELS[level])
    return inspection.build(network, in_memory(LEVELS[level], texts), texts, settings)


@pytest.mark.parametrize("characters", [1, 2, 3, 7, 50, 300, 1000, len(TEST), 10 * len(TEST)])
@pytest.mark.parametrize("text", [TEST, "\n".join("abc"), "un\n\n\ndeux\n\n", "sans", "a b", " "])
def test_a_passage_begins_a_line_and_ends_where_no_token_reaches_across(text: str, characters: int) -> None:
    start, end = inspection.passage(text, characters)
    assert 0 <= start < end <= len(text)
    assert start == 0 or (text[start - 1] == "\n" and text[start] != "\n")
    assert end == len(text) or text[end] == " " or (text[end - 1] == "\n" and text[end] != "\n")
    if characters >= len(text):
        assert (start, end) == (0, len(text))
    elif end <= start + characters:  # not shortened further than needed
        assert " " not in text[end + 1 : start + characters + 1]
    else:  # there was no end before
        assert " " not in text[start + 1 : end]
        assert "\n" not in text[start : end - 1].rstrip("\n")


@pytest.mark.parametrize("level", list(LEVELS))
def test_every_level_shows_the_same_passage_and_all_of_it(level: str) -> None:
    shown = built("bigram", level)
    text, start = shown.passage.text, shown.passage.start
    assert shown.passage.split == "test"
    assert (start, start + len(text)) == inspection.passage(TEST, CHARACTERS)
    assert TEST[start:].startswith(text)
    assert LEVELS[level].encode(text).size == len(shown.surprisal)  # as many as the passage has by itself
    covered = {place for token in shown.surprisal for place in range(token.start, token.end)}
    assert covered == set(range(len(text)))


@pytest.mark.parametrize("kind", ["bigram", *GPT_KINDS])
@pytest.mark.parametrize("first", [0, 5, 300])
def test_each_token_is_predicted_after_a_full_context(kind: str, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `token_nats` scores it when its windows begin one token apart; in several batches, which meet inside."""
    words, ids = LEVELS["char"], LEVELS["char"].encode("Ω" + TEST)
    network = random_network(kind, words)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    monkeypatch.setattr(inspection, "TOKENS_PER_BATCH", 7 * CONTEXT)
    shown = inspection.surprisal(network.train(), words, ids, first, np.zeros((40, 2), dtype=np.int64))
    exact = token_nats(network, ids, torch.device("cpu"), stride=1) + naming_nats(ids, words.unknown_id)
    assert [token.nats for token in shown] == pytest.approx(exact[first : first + 40].tolist(), abs=2e-4)
    assert network.training


def test_the_alternatives_are_those_of_the_tokens_place() -> None:
    shown = built("modern", "char")
    text, seen = shown.passage.text, 0
    for token in shown.surprisal:
        top = dict(token.top)
        assert len(top) == 5
        assert list(top.values()) == sorted(top.values(), reverse=True)
        actual = text[token.start : token.end]
        if actual in top:
            seen += 1
            assert top[actual] == pytest.approx(math.exp(-token.nats), abs=2e-4)
    assert seen > 5


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_attention_comes_back_from_its_bytes(kind: str) -> None:
    shown = built(kind, "char")
    assert shown.attention is not None
    tokens = shown.attention.tokens
    assert tokens == list(shown.passage.text[:10])
    inside = internals.read(random_network(kind, LEVELS["char"]), LEVELS["char"], "".join(tokens))
    assert inside.attention_LHTT is not None
    for heads, exact_HTT in zip(shown.attention.layers, inside.attention_LHTT.numpy(), strict=True):
        for head, exact_TT in zip(heads, exact_HTT, strict=True):
            read = np.frombuffer(base64.b64decode(head), np.uint8).reshape(len(tokens), len(tokens)) / 255
            assert np.abs(read - exact_TT).max() <= 0.5 / 255 + 1e-6
            assert read[0, 0] == 1


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_lens_ends_in_the_network(kind: str) -> None:
    shown = built(kind, "word", tokens=99)  # more than the context
    lens, words = shown.lens, LEVELS["word"]
    assert lens is not None
    ids = words.encode(shown.passage.text)[: CONTEXT + 1]
    assert lens.tokens + lens.targets[-1:] == [words.decode([token]) for token in ids]
    assert lens.tokens[1:] == lens.targets[:-1]
    assert lens.layers == ["embedding", "block 1", "block 2"]
    inside = internals.read(random_network(kind, words), words, words.decode(ids[:-1]))
    assert lens.top[-1] == [
        [(text, round(share, 4)) for text, share in row] for row in [*inside.top(3)[1:], inside.following(3)]
    ]
    exact = torch.nn.functional.cross_entropy(inside.logits_TV, torch.from_numpy(ids[1:]))
    assert lens.nats[-1] == pytest.approx(float(exact), abs=1e-4)
    assert len(lens.nats) == len(lens.top) == 3


def test_by_a_lens_unknown_characters_cost_their_names() -> None:
    words = LEVELS["char"]
    inside = internals.read(random_network("modern", words), words, "un")
    known, unknown = (inspection.lens(inside, words.encode(text)) for text in ("n,", "nΩ"))
    assert known is not None
    assert unknown is not None
    assert unknown.nats[-1] > known.nats[-1] + 5


@pytest.mark.parametrize(
    ("kind", "present"),
    [("bigram", {"bigram"}), ("classic", {"attention", "lens", "positions"}), ("modern", {"attention", "lens"})],
)
def test_what_a_network_lacks_is_null(kind: str, present: set[str]) -> None:
    shown = built(kind, "char")
    optional = ("attention", "lens", "positions", "bigram")
    assert {part for part in optional if getattr(shown, part) is not None} == present


def test_points_on_a_plane_keep_their_distances_however_the_space_is_turned() -> None:
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(30, 2)) * [5, 2]
    turn, _ = np.linalg.qr(generator.normal(size=(8, 8)))
    points, shares = weights.plane(np.pad(flat, ((0, 0), (0, 6))) @ turn + 7)
    again, _ = weights.plane(np.pad(-flat, ((0, 0), (0, 6))))
    xy = np.array(points)
    np.testing.assert_allclose(
        np.linalg.norm(xy[:, None] - xy, axis=-1), np.linalg.norm(flat[:, None] - flat, axis=-1), atol=3e-3
    )
    np.testing.assert_allclose(np.abs(xy), np.abs(np.array(again)), atol=2e-3)
    assert sum(shares) == pytest.approx(1, abs=2e-4)
    assert shares[0] > shares[1]
    assert (xy.max(axis=0) >= -xy.min(axis=0)).all()  # the coordinate farthest out is positive


def test_points_that_all_coincide_explain_nothing() -> None:
    assert weights.plane(np.ones((3, 4), dtype=np.float32)) == ([[0.0, 0.0]] * 3, [0.0, 0.0])


def test_the_commonest_tokens_are_drawn_with_their_class() -> None:
    shown = built("modern", "char").embeddings.points
    assert [text for text, *_ in shown[:3]] == sorted(set(TRAIN), key=TRAIN.count, reverse=True)[:3]
    assert {text for text, *_ in shown} == set(TRAIN)
    classes = {text: name for text, _, _, name in shown}
    assert (classes[" "], classes["\n"], classes["é"], classes["e"]) == ("spaces", "line breaks", "accents", "letters")
    words = built("modern", "word").embeddings.points
    assert len(words) <= inspection.EMBEDDED_TOKENS
    assert {name for text, _, _, name in words if text == " de"} == {"letters"}


@pytest.mark.parametrize(
    ("level", "token", "name"), [("bpe", b"\xc3", "other"), ("bpe", b"A", "capitals"), ("word", b" ?", "punctuation")]
)
def test_a_token_belongs_to_the_class_of_its_first_visible_character(level: str, token: bytes, name: str) -> None:
    assert weights.token_class(LEVELS[level], LEVELS[level].token_bytes.index(token)) == name


def recital(text: str) -> tuple[Tokenizer, Any]:
    words = fitting.fit_char(text, min_count=1)
    return words, chain(words, text)


def test_a_bigram_that_learned_its_counts_shows_two_equal_tables() -> None:
    words, network = recital("abc")
    train = words.encode("abcabcabca")
    shown = weights.bigram(network, words, train, weights.commonest(train, words.vocab_size))
    assert shown is not None
    assert shown.characters == ["a", "b", "c"]
    assert shown.counted == shown.learned == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_what_follows_a_token_that_only_ends_the_text_was_never_counted() -> None:
    assert weights.counted(np.array([0, 1]), np.array([0, 1]), vocab_size=2).tolist() == [[0, 1], [0, 0]]


def test_only_the_commonest_tokens_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "EMBEDDED_TOKENS", 6)
    monkeypatch.setattr(inspection, "BIGRAM_TOKENS", 4)
    shown = built("bigram", "word")
    assert shown.bigram is not None
    assert [text for text, *_ in shown.embeddings.points][:4] == shown.bigram.characters
    assert len(shown.embeddings.points) == 6
    assert np.shape(shown.bigram.counted) == np.shape(shown.bigram.learned) == (4, 4)


def test_without_a_test_text_the_passage_is_one_of_the_validation_text() -> None:
    shown = built("bigram", "char", test="")
    assert shown.passage.split == "validation"
    assert shown.passage.text in TEST[::-1]


@pytest.mark.parametrize("level", list(LEVELS))
@pytest.mark.parametrize("characters", [1, 3, 20])
def test_the_shortest_passage_still_holds_a_token(level: str, characters: int) -> None:
    shown = built("modern", level, characters=characters)
    assert shown.attention is not None
    assert shown.surprisal[0].start == 0
    assert shown.surprisal[-1].end == len(shown.passage.text)
    assert len(shown.attention.tokens) == 10


@pytest.mark.parametrize("text", ["Un mot.\n", "ab"])
def test_a_text_shorter_than_the_passage_is_shown_whole(text: str) -> None:
    shown = built("modern", "char", test=text)
    assert shown.lens is not None
    assert shown.passage == InspectedPassage(split="test", start=0, text=text)
    assert len(shown.surprisal) == len(text)
    assert shown.surprisal[0].nats == pytest.approx(math.log(LEVELS["char"].vocab_size), abs=1e-4)
    assert len(shown.lens.targets) == min(10, len(text) - 1)


@pytest.mark.parametrize("kind", ["bigram", "classic", "modern"])
def test_the_same_model_gives_the_same_bytes_on_one_line(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        built(kind, "bpe").write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes().count(b"\n") == 1
    assert Inspection.read(tmp_path / "a") == built(kind, "bpe")
