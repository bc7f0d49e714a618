import pytest

from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.generation import complete
from gptmodel.decoding.prompts import known_text, notes, start, unknown_characters
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.model.torch_decoder import TorchDecoder
from tests.support.bundles import TEXT, char_tokenizer, random_network

FREE = Sampling(temperature=1.0)
LETTERS = char_tokenizer()
WRITER = TorchDecoder(random_network("modern", LETTERS))


def test_unknown_characters_are_left_out_and_named_or_written_plainly() -> None:
    assert known_text(LETTERS, "l’e\u0301te\u0301\u00a0!☃") == "l't "  # é is in no word of the text, nor is !
    assert unknown_characters(LETTERS, ["l’î", "i\u0302le☃", "☃?"]) == ["☃"]
    known, with_unknown = complete(WRITER, LETTERS, ["l'île", "☃l’île☃"], Settings(20, FREE, 1))
    assert known.text == with_unknown.text


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
