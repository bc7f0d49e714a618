"""A text of the user's own through fetch and clean, and what the cards, the page and the prompts then say of it."""

import re
from pathlib import Path
from typing import Any

import pytest

from gptmodel import layout
from gptmodel.data.corpus import read_clean, read_facts
from gptmodel.decoding import samples
from gptmodel.errors import UserError
from gptmodel.export import model_card
from gptmodel.params import load
from gptmodel.report import page
from gptmodel.text.openings import openings
from pipelines import clean, fetch
from tests.support import cards, runs
from tests.support.closure import ROOT
from tests.support.places import edit_params

FRENCH = (ROOT / "tests" / "fixtures" / "roman.txt").read_text(encoding="utf-8")
ENGLISH = "The sea was calm and the boat was his. “He is late,” said the old man.\nNobody answered him that day.\n" * 40
GERMAN = "Der Mond ist aufgegangen. Die goldnen Sternlein prangen am Himmel hell und klar.\n" * 40


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    for name in (layout.PARAMS, layout.CATALOG):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(root: Path, text: str, **values: Any) -> None:
    """Run fetch and clean on a text of that name, with these values in params.yaml."""
    (root / "my-book.txt").write_text(text, encoding="utf-8")
    edit_params(root, lambda given: given.update({"corpus": "my-book.txt"} | values))
    fetch.main()
    clean.main()


@pytest.mark.parametrize(
    ("text", "language", "typography", "word", "prompts"),
    [
        (FRENCH, "fr", "fr", "French", ["Le phare ", "— Cela ", "Il ne "]),
        (ENGLISH, "en", "other", "English", ["The sea ", "“He is ", "Nobody answered "]),
        (GERMAN, None, "other", "language", ["Der Mond ", "Die goldnen "]),
    ],
)
def test_the_language_that_cleaning_finds_and_the_book_s_own_prompts_reach_everything(
    project: Path, text: str, language: str | None, typography: str, word: str, prompts: list[str]
) -> None:
    prepare(project, text)
    corpus, facts = read_clean(layout.CLEAN), read_facts(layout.TEXT)
    assert (corpus.title, corpus.author, corpus.language, corpus.typography) == ("my-book", None, language, typography)
    assert (facts.language, facts.typography) == (language, typography)
    settings = load(layout.PARAMS)
    assert samples.prompts(settings.samples.prompts, facts) == facts.prompts == prompts
    assert samples.prompts([settings.timeline.prompt], facts)[0] == prompts[0]
    assert samples.prompts(["Ah ", "auto"], facts) == ["Ah ", *prompts]
    card = model_card.bundle_card(cards.results(corpus=corpus))
    assert re.findall(r"^language: (.*)$", card, re.MULTILINE) == [language] * (language is not None)
    html = page.render(runs.run().model_copy(update={"corpus": corpus}))
    assert f"Is it {word}?" in html
    assert f"From noise to {word}" in html
    assert "unnamed" not in html


def test_title_author_and_language_can_be_given_and_retrain_nothing(project: Path) -> None:
    prepare(project, GERMAN, corpus={"path": "my-book.txt", "language": "de"})
    texts = {path.name: path.read_bytes() for path in layout.TEXT.iterdir()}
    said = {"title": "Der Mond", "author": "M. Claudius", "language": "de"}
    prepare(project, GERMAN, corpus={"path": "my-book.txt", **said})
    corpus = read_clean(layout.CLEAN)
    assert corpus.model_dump(include=set(said)) == said
    assert corpus.name == "my-book"
    assert {path.name: path.read_bytes() for path in layout.TEXT.iterdir()} == texts
    results = cards.results(corpus=corpus)
    assert "*Der Mond* by M. Claudius" in model_card.bundle_card(results)
    assert '<h1 lang="de">Der Mond</h1>' in page.render(runs.run().model_copy(update={"corpus": corpus}))


@pytest.mark.parametrize(
    ("said", "asked", "language", "typography"),
    [
        (None, "fr", "fr", "fr"),
        (None, "other", None, "other"),
        ("en", "auto", "en", "other"),
        ("fr", "other", "fr", "other"),
    ],
)
def test_what_is_said_of_the_language_stands_before_what_is_found(
    project: Path, said: str | None, asked: str, language: str | None, typography: str
) -> None:
    edit_params(project, lambda values: values["clean"].update(language=asked))
    prepare(project, FRENCH, corpus={"path": "my-book.txt", "language": said})
    corpus = read_clean(layout.CLEAN)
    assert (corpus.language, corpus.typography) == (language, typography)


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        ({"title": "x"}, "corpus.path: missing"),
        ({"path": "x", "titel": "x"}, "corpus.titel: unknown key: did you mean title?"),
        ({"path": "x", "language": "French"}, "corpus.language: "),
        ({"path": "x", "author": ""}, "corpus.author: "),
        (5, "corpus: "),
    ],
)
def test_a_mistake_in_what_is_said_of_a_text_is_one_line(project: Path, corpus: Any, said: str) -> None:
    edit_params(project, lambda values: values.update(corpus=corpus))
    with pytest.raises(UserError) as caught:
        load(layout.PARAMS)
    assert f"params.yaml: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_prompt_may_stand_without_a_list(project: Path) -> None:
    edit_params(project, lambda values: values["samples"].update(prompts="Ah ! "))
    assert load(layout.PARAMS).samples.prompts == ["Ah ! "]


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        (
            "ROMEO:\nIt is the east.\n\nJULIET:\nAy me! So be it.\nIt is the lark. Ah, no, sir!\n",
            ["It is ", "Ay me! ", "So be "],
        ),
        ("tout en minuscules ici. tout va bien.\n", ["tout en "]),
        ("LE ROI RIT BIEN.\nLE ROI DORT.\n", ["LE ROI "]),
        ("1815. 1816 fut froid. 12 34 56\n", ["1815. 18"]),
        ("彼は走った。彼は歩いた。\n犬が吠えた。\n", ["彼は走った。彼は", "犬が吠えた。"]),
        ("\n \n", ["\n"]),
    ],
)
def test_prompts_are_the_commonest_beginnings_of_sentences(text: str, prompts: list[str]) -> None:
    assert openings(text) == prompts
