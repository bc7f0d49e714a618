import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gptmodel.data import pretokenizer
from gptmodel.evaluation import lexicon
from gptmodel.evaluation.memorization import Span, copied_spans, in_training, longest_ending, sequences, words

small = st.text("abé", max_size=14)

QUOTE = (
    "Maintenant je suis captif. Mon corps est aux fers dans un cachot, mon esprit est en prison dans une idée. Une "
    "horrible, une sanglante, une implacable idée ! Je n'ai plus qu'une pensée, qu'une conviction, çà et là !"
)


def by_definition(text: str, train: str) -> list[int]:
    """The longest copied span that ends with each character, by trying all."""
    return [max(end - start for start in range(end + 1) if text[start:end] in train) for end in range(1, len(text) + 1)]


def spans_by_definition(text: str, train: str) -> list[Span]:
    """Every copied span that is inside no other."""
    ends = range(len(text) + 1)
    held = [(a, b) for b in ends for a in range(b) if text[a:b] in train]
    return [Span(a, b) for a, b in held if not any(c <= a and b <= d and (c, d) != (a, b) for c, d in held)]


@given(st.lists(small, max_size=4), small)
@example(["abab", "baba"], "abba")  # a state is split
@example(["aa", "aaa", ""], "aa")
def test_lengths_and_spans_are_those_of_trying_every_span(texts: list[str], train: str) -> None:
    assert longest_ending(texts, train) == [by_definition(text, train) for text in texts]
    assert copied_spans(texts, train) == [spans_by_definition(text, train) for text in texts]


@given(st.text("ab", max_size=300), st.text("ab", max_size=300))
def test_lengths_are_right_where_everything_repeats(text: str, train: str) -> None:
    lengths = longest_ending([text], train)[0]
    for end, length in enumerate(lengths, start=1):
        assert text[end - length : end] in train
        assert length == end or text[end - length - 1 : end] not in train


@pytest.mark.parametrize("before", ["", "0123456789 "])
@pytest.mark.parametrize("after", ["", " 9876543210"])
@pytest.mark.parametrize("around", [("", ""), ("Paris. ", ""), ("", " Demain"), ("ÉÀ😀 ", " œuvre")])
def test_a_planted_quote_is_found_at_its_place(before: str, after: str, around: tuple[str, str]) -> None:
    quote = QUOTE[:200]
    assert len(quote) == 200
    train = around[0] + quote + around[1]
    spans = copied_spans([before + quote + after], train)[0]
    longest = max(spans, key=len)
    # the space beside the quote is copied too where training has it as well
    start = len(before) - (before[-1:] == " " == around[0][-1:])
    end = len(before) + 200 + (after[:1] == " " == around[1][:1])
    assert longest == Span(start, end)
    assert all(len(span) < 40 for span in spans if span != longest)


def test_copies_that_overlap_or_return_are_all_there() -> None:
    head, tail = QUOTE[:60], QUOTE[40:120]
    text = QUOTE[:120] + "#" + head
    spans = [span for span in copied_spans([text], f"{head}#{tail}")[0] if len(span) > 1]
    assert spans == [Span(0, 60), Span(40, 120), Span(121, 181)]


def test_no_span_reaches_from_one_text_into_the_next() -> None:
    assert copied_spans(["ab", "cd"], "abcd") == [[Span(0, 2)], [Span(0, 2)]]


def test_words_are_compared_without_capitals_and_outer_punctuation() -> None:
    train = "Il dit : « Je suis\nCAPTIF dans l'idée, et voilà ! »"
    run = sequences(words("je suis captif, dans L'IDÉE : et voilà…"), 7)
    assert run == [("je", "suis", "captif", "dans", "l'idée", "et", "voilà")]
    assert in_training(run, train) == set(run)
    assert in_training(sequences(words("je suis captif dans une idée et"), 7), train) == set()
    assert in_training([], train) == set()


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 4))
def test_sequences_in_training_are_those_among_its_own(text: list[str], train: list[str], count: int) -> None:
    wanted = sequences(text, count)
    assert in_training(wanted, " ".join(train)) == set(wanted) & set(sequences(train, count))


def test_french_words_are_cut_at_elisions_and_inversions_and_english_ones_are_not() -> None:
    french = "Qu'a-t-il dit ? L’Œuvre — va-t'en, 3 chefs-d'œuvre !"
    assert lexicon.words(french, "fr") == ["qu'", "a", "il", "dit", "l'", "œuvre", "va", "t'", "en", "chefs-d'œuvre"]
    assert lexicon.words("It’s the king's o'clock, 4 TIMES.", "en") == ["it's", "the", "king's", "o'clock", "times"]


def test_the_vocabulary_of_a_long_text_is_that_of_its_words() -> None:
    text = "".join(f"\nl'arc-en-ciel{'a' * (k % 7)} dit-il, peut-être" for k in range(5_000))
    assert len(text) > 2 * pretokenizer.BLOCK_CHARACTERS
    assert lexicon.vocabulary(text, "fr") == set(lexicon.words(text, "fr"))


@pytest.mark.parametrize(
    ("language", "known", "unknown"),
    [
        ("fr", "l'homme qu'aujourd'hui égorgeait peut-être, dit-il, le cœur d'un condamné", "cherval fagul pomin"),
        ("en", "Don't thou think the king's long-winded brother was wrong", "thinque bruvver gjort"),
    ],
)
def test_the_lexicon_tells_words_from_inventions(language: str, known: str, unknown: str) -> None:
    pytest.importorskip("spellchecker")
    knows = lexicon.load(language)
    assert knows is not None
    assert [word for word in lexicon.words(known, language) if not knows(word)] == []
    assert [word for word in lexicon.words(unknown, language) if knows(word)] == []


def test_without_a_lexicon_there_is_none_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lexicon.load(None) is None
    monkeypatch.setitem(sys.modules, "spellchecker", None)  # as if it were not installed
    assert lexicon.load("fr") is None


def test_novelty_needs_no_torch() -> None:
    code = "import sys, gptmodel.evaluation.novelty; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
