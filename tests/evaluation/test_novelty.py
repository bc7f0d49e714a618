from pathlib import Path

import pytest

from gptmodel.evaluation import lexicon, novelty
from gptmodel.evaluation.memorization import SHORTEST_COPY
from gptmodel.evaluation.novelty import Part, excerpts
from gptmodel.results.evaluation import Copy, Novelty
from gptmodel.results.samples import Sample, Samples

TRAIN = (
    "Le vieux roi dormait dans sa tour, et la pluie tombait sur les toits de la ville. "
    "Personne ne parlait plus de la guerre ni du fils perdu. Au matin, un marchand de sel "
    "frappa trois fois à la porte du château, et demanda à boire. "
)
HELD_OUT = "La reine écoutait le vent qui passait sous les portes. Elle pensait à son fils. Le chien gris rêvait. " * 3
NEW = "Une barque verte glissait sans bruit vers le moulin, et deux enfants riaient sous les saules du bord."


@pytest.fixture(autouse=True)
def no_lexicon(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The figures here are counted by hand, from the training text alone, unless a test is about the lexicon."""
    if "lexicon" not in request.node.name:
        monkeypatch.setattr(lexicon, "LANGUAGES", ())


def sample(text: str, prompt: str = "Alors ") -> Sample:
    return Sample(prompt=prompt, text=text, temperature=0.4, seed=7)


def assess(samples: list[Sample], train: str, held_out: str, language: str | None) -> Novelty:
    return novelty.assess(Samples(samples=samples), train, held_out, language)


def test_a_copied_quote_is_reported_with_its_places_and_a_warning() -> None:
    start = 20
    quote = TRAIN[start : start + 120]
    found = assess([sample(NEW), sample("xx" + quote + "zz")], TRAIN, HELD_OUT, "fr")
    second = found.per_sample[1]
    assert second.copies == [Copy(start=2, end=122, train_start=start)]
    assert second.longest_copy_text == found.samples.longest_copy_text == quote
    assert found.samples.longest_copy_characters == 120
    assert found.per_sample[0].copies == []
    assert found.held_out.longest_copy_characters < SHORTEST_COPY
    copying, share = found.warnings
    assert copying.startswith(
        "A sample copies 120 characters verbatim from the training text (temperature 0.4, prompt 'Alors ')"
    )
    assert "8-word sequences" in share


def test_new_text_gives_no_warning() -> None:
    assert assess([sample(NEW), sample(NEW[30:])], TRAIN, HELD_OUT, "fr").warnings == []


def test_a_copy_that_held_out_text_makes_too_is_no_warning() -> None:
    quote = TRAIN[:120]
    assert assess([sample(quote)], TRAIN, quote + HELD_OUT, "fr").warnings == []


def test_the_prompt_is_not_the_models() -> None:
    begun = assess([sample("et puis plus rien, dit-elle. ", TRAIN[:80])], TRAIN, HELD_OUT, "fr")
    assert begun.samples.longest_copy_characters < 10
    continued = assess([sample(TRAIN[80:140], TRAIN[:80])], TRAIN, HELD_OUT, "fr")
    assert continued.per_sample[0].copies == [Copy(start=0, end=60, train_start=80)]


def test_words_cut_at_either_end_are_left_out() -> None:
    assert Part("Le ", "vieux roi dor").whole_words.split() == ["vieux", "roi"]
    assert Part("Le vi", "eux roi dor").whole_words.split() == ["roi"]
    assert Part("Le vi", " roi\ndort ").whole_words.split() == ["roi", "dort"]
    assert Part("", "dort ").whole_words.split() == ["dort"]
    assert Part("Le vi", "eux").whole_words.split() == Part("", "eux").whole_words.split() == []


def test_the_shares_of_words_are_those_counted_by_hand() -> None:
    alone = assess([sample("le roi dormait, le roi chantait, dix fois ! ")], TRAIN, HELD_OUT, "fr").samples
    assert alone.words == 8
    assert alone.words_in_training == alone.words_known == 6 / 8  # neither chantait nor dix
    assert alone.words_in_lexicon is None
    assert alone.distinct_words == 6 / 8


def test_repetition_is_the_share_of_sequences_met_before() -> None:
    # un deux trois quatre un deux trois quatre: five sequences of four words, the last of which is the first again
    repeated = assess([sample("un deux trois quatre un deux trois quatre ")], TRAIN, HELD_OUT, "fr").samples
    assert repeated.repetition == 1 / 5


def test_degenerate_repetition_is_warned_of() -> None:
    (warning,) = assess([sample("non, non, non et non, non, non ! " * 9)], TRAIN, HELD_OUT[:102], None).warnings
    assert warning.startswith("A sample repeats itself")


def test_a_phrase_said_twice_is_no_warning() -> None:
    text = "la mer est calme ce soir, " + NEW + " oui, la mer est calme pourtant. "
    found = assess([sample(text)], TRAIN, HELD_OUT[:102], None)
    assert 0 == found.held_out.repetition < found.samples.repetition < novelty.REPEATED_MORE
    assert found.warnings == []


def test_eight_word_sequences_in_training_are_counted_across_punctuation() -> None:
    # 9 words, 2 sequences: the second ends in a word that training does not have there
    copied = assess([sample("personne ne parlait plus : de la guerre ni pluie. ")], TRAIN, HELD_OUT, "fr").samples
    assert copied.copied_8_word_sequences == 1 / 2


def test_figures_of_several_samples_are_pooled() -> None:
    short, long = sample("le roi "), sample("une barque verte glissait sans bruit ")
    together = assess([short, long], TRAIN, HELD_OUT, "fr").samples
    each = [assess([alone], TRAIN, HELD_OUT, "fr").samples for alone in (short, long)]
    assert [figures.words for figures in each] == [2, 6]
    assert together.words_in_training == sum(figures.words * figures.words_in_training for figures in each) / 8


def test_held_out_excerpts_are_as_many_and_as_long_as_the_samples_and_inside_the_text() -> None:
    parts = excerpts(HELD_OUT, [50, 80, 10])
    assert [len(part.text) for part in parts] == [50, 80, 10]
    assert HELD_OUT.startswith(parts[0].text)
    assert HELD_OUT.endswith(parts[2].text)
    assert parts[2].before == HELD_OUT[-11]
    assert [part.text for part in excerpts("court", [50, 50])] == ["court", "court"]


def test_a_text_is_as_novel_as_itself() -> None:
    chunks = excerpts(HELD_OUT, [90, 90])
    found = assess([sample(part.text, part.before) for part in chunks], TRAIN, HELD_OUT, "fr")
    assert found.samples == found.held_out
    assert found.warnings == []


def test_the_lexicon_knows_what_the_training_text_lacks() -> None:
    pytest.importorskip("spellchecker")
    figures = assess([sample("la barque glissait, chevragne fussiole ! ")], TRAIN, HELD_OUT, "fr").samples
    assert figures.words_in_training == 1 / 5
    assert figures.words_in_lexicon == figures.words_known == 3 / 5


@pytest.mark.parametrize("text", ["", " ", "mot", "\n\n", "!!!"])
def test_a_sample_of_no_words_has_figures_and_they_can_be_written(text: str, tmp_path: Path) -> None:
    found = assess([sample(text)], TRAIN, HELD_OUT, None)
    assert found.samples.words == 0
    assert found.warnings == []
    found.write(tmp_path / "novelty.json")
    assert Novelty.read(tmp_path / "novelty.json") == found


def test_shares_stay_between_none_and_all() -> None:
    found = assess([sample(TRAIN), sample(NEW), sample("")], TRAIN, "", None)
    shares = ["words_in_training", "words_known", "distinct_words", "repetition", "copied_8_word_sequences"]
    for figures in (found.samples, found.held_out, *found.per_sample):
        assert all(0 <= getattr(figures, name) <= 1 for name in shares)
    assert novelty.COPIED_WORDS == 8  # the key copied_8_word_sequences says so
