import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.generation import complete
from gptmodel.decoding.prompts import known_text, notes, plain_form, start, unknown_characters
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.model.torch_decoder import TorchDecoder
from tests.support.bundles import TEXT, char_tokenizer, random_network

FREE = Sampling(temperature=1.0)
LETTERS = char_tokenizer()
WRITER = TorchDecoder(random_network("modern", LETTERS))


def test_unknown_characters_are_left_out_and_named_or_written_plainly() -> None:
    assert known_text(LETTERS, "l’e\u0301te\u0301\u00a0!☃") == "l'ete "  # neither é nor ! is in the text
    assert unknown_characters(LETTERS, ["!"]) == ["!"]
    assert unknown_characters(LETTERS, ["l’î", "i\u0302le☃", "☃?"]) == ["☃"]
    known, with_unknown = complete(WRITER, LETTERS, ["l'île", "☃l’île☃"], Settings(20, FREE, 1))
    assert known.text == with_unknown.text


FRENCH = "abcdefghijlmnopqrstuvwxyz ABCDEFGHIJLMNOPQRSTUVWXY «»—-'.,;:!?…éèàçÉ"  # neither k nor Z


@pytest.mark.parametrize(
    ("known", "prompt", "read"),
    [
        (FRENCH, "l'œuvre d'un bœuf, Œdipe, curriculum vitæ", "l'oeuvre d'un boeuf, OEdipe, curriculum vitae"),
        (FRENCH, "El Niño, Ångström, Łódź, straße, ﬁn, ĳ", "El Nino, Angstrom, Lodz, strasse, fin, ij"),
        (FRENCH, "“Hé” dit-il, ‘là’ – oui", "« Hé » dit-il, 'là' — oui"),
        (FRENCH, 'Il dit : "Hé !" -"là"\t"', "Il dit : « Hé ! » -« là » « "),
        (FRENCH, "un\u00a0zéro, Zoé, Ｚ, ℬ", "un zéro, zoé, z, B"),
        (FRENCH, "so\u00adleil\u200b, z\u0324", "soleil, z"),
        (FRENCH + "œ“”", "œuvre “Hé”", "œuvre “Hé”"),
        ("abc eé ", "ÉCÊ", "éce"),  # a text without capitals
        ("abc e\u0301", "é", "e\u0301"),  # a text whose accents are characters of their own
        ("abc '’", "'`´’", "'''’"),
        ("abcdehlo “”’", "d'\"abc\" 'e'", "d’“abc” ’e’"),  # an English text with its own marks
        ("ab/123", "½⅓a²", "1/21/3a2"),
    ],
)
def test_an_unknown_character_is_replaced_by_its_closest_plain_form_that_is_known(
    known: str, prompt: str, read: str
) -> None:
    words = fitting.fit_char(known, 1)
    assert known_text(words, prompt) == read
    assert not unknown_characters(words, [prompt])


@given(text=st.text(max_size=40), known=st.text(min_size=1, max_size=40))
def test_all_that_is_left_of_a_prompt_is_known_and_what_went_is_named(text: str, known: str) -> None:
    words = fitting.fit_char(known, 1)
    assert not words.unknown_characters(known_text(words, text))
    left_out = set(unknown_characters(words, [text]))
    for character in unicodedata.normalize("NFC", text):
        form = plain_form(words, character)
        assert (form is None) == (character in left_out)
        assert form == character or words.unknown_characters(character)


@pytest.mark.parametrize("words", [fitting.fit_word(TEXT * 3, 700, 1), fitting.fit_bpe(TEXT * 3, 400)])
def test_only_the_last_space_of_a_prompt_is_handed_on(words: Tokenizer) -> None:
    assert start(words, "Le ") == (words.encode("Le").tolist(), True)
    assert start(words, "Le  ") == (words.encode("Le ").tolist(), True)
    assert start(words, " ") == (words.encode(" ").tolist(), False)
    assert start(LETTERS, "e ") == (LETTERS.encode("e ").tolist(), False)


def test_what_a_person_should_know_of_prompts_is_said_in_a_line_each() -> None:
    assert list(notes(LETTERS, ["l'île"], 12)) == []
    assert list(notes(LETTERS, ["", "☃" + "l" * 13], 12)) == [
        "left out of the prompts, as the model has never seen them: '☃'",
        "an empty prompt starts from a line break",
        "the longest prompt has 13 tokens: the model sees the last 12 at most",
    ]
