import re
import textwrap
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.errors import UserError
from gptmodel.params import Clean, CleanRules
from gptmodel.results.corpus import Typography
from gptmodel.text import boilerplate, cleaning, cleaning_report, paragraphs
from gptmodel.text.catalog import OwnText, fetch
from gptmodel.text.cleaning import RULES, clean, clean_corpus, clean_counting, guess_language, tallies
from gptmodel.text.textfiles import decode, read_text

NOVEL = (Path(__file__).parents[1] / "fixtures" / "roman.txt").read_text(encoding="utf-8")
ALL = CleanRules(**dict.fromkeys(CleanRules.model_fields, True))
NONE = CleanRules(**dict.fromkeys(CleanRules.model_fields, False))
VERSE = ("Qui veille", "La vague passe", "Elle a tissé", "Avec le fil")

PLAY = (
    'LEAR:\nWho\'s there--speak! I see it: no... \nThe "fool"  of night\n\n\nFOOL:\nNuncle, give me an egg;\n'
    "And I'll give thee two crowns.\n\nLEAR:\nWhat two crowns shall they be?\n"
)


def only(*names: str) -> CleanRules:
    return CleanRules(**{name: name in names for name in CleanRules.model_fields})


# Three editions of one novel, as digital libraries make them: the same text must come out of all of them.


def wrapped(novel: str, width: int) -> str:
    lines = []
    for line in novel.splitlines():
        verse = line.startswith(VERSE)
        lines += [f"          {line}"] if verse else textwrap.wrap(line, width, break_on_hyphens=False)
        if not (verse and not line.startswith("Avec")):
            lines += [""]
    return "\n".join(lines)


def gutenberg_tight() -> str:
    text = re.sub(r" ([;:!?»])", r"\1", NOVEL).replace("« ", "«").replace("…", "...").replace("— ", "--")
    text = text.replace("harmonium", "_harmonium_").replace("Chapitre III", "\n\n\nChapitre III")
    frame = (
        "\ufeffThe Project Gutenberg EBook of Le phare, by Nobody\n\nLanguage: French\n\n"
        "*** START OF THIS PROJECT GUTENBERG EBOOK LE PHARE ***\n\n\nProduced by Nobody and\nthe others\n\n\n"
        "Nobody\n\nLE PHARE\n\n(1887)\n\n\nTABLE DES MATIÈRES\n\nChapitre premier L'arrivée\n"
        "Chapitre II La tour\nChapitre III La tempête, ou comment un jeune homme\n     de Rennes\n\n\n"
    )
    end = "\n\n\nEnd of Project Gutenberg's Le phare\n\n*** END OF THIS PROJECT GUTENBERG EBOOK ***\n\nLicence\n"
    body = wrapped(text, 72).removeprefix("Le phare de Kerdoual\n\n")
    return (frame + body + end).replace("\n", "\r\n")


def gutenberg_spaced() -> str:
    text = re.sub(r" ([;:!?])", "\u00a0\\1", NOVEL).replace("« ", '"').replace(" »", '"').replace("…", "...")
    text = text.replace("— ", "-- ").replace("vieux gris", "vieux gris [Note\u00a0: Un cheval.]").replace("'", "’")
    return wrapped(text, 66)


def one_line_each() -> str:
    return NOVEL.replace("\n", " \n\n").replace("l'harmonium", "l'harmonium [12]").replace("— ", "– ")


@pytest.mark.parametrize("edition", [gutenberg_tight, gutenberg_spaced, one_line_each])
def test_editions_of_one_novel_become_one_text(edition: Callable[[], str]) -> None:
    expected = NOVEL.removeprefix("Le phare de Kerdoual\n") if edition is gutenberg_tight else NOVEL
    assert clean(edition(), ALL, "fr") == expected


def test_a_clean_novel_is_not_touched() -> None:
    counts = tallies(ALL, "fr")
    assert clean_counting(NOVEL, counts) == NOVEL
    assert sum(tally.changes for tally in counts.values()) == 0


PIECES = (
    st.sampled_from("aÉ3 \n\r\t\u00a0\u202f\ufeff\u00ad\u2028\u0301\u0323.…-—–―\"“”«»‘’';:!?,()[]_/°<>=")
    | st.sampled_from(["mot", "Mot", "12", "e\u0301", "  ", "\n\n", "\n\n\n", "\r\n", "..", "...", "--", "---", "?!"])
    | st.sampled_from(["__", "[12]", "[Note : x]", "[1", "d'", "l'\"", "http://a.b/", "www.x.fr", "TABLE\n"])
    | st.sampled_from(["I. La mer\n", "II. Le mur\n", "Chapitre I\n", "Chapitre II Foo\n", "Livre premier\n"])
    | st.sampled_from(["une longue ligne de texte qui continue\n", "puis la suite du texte\n", "Produced by X\n"])
    | st.sampled_from(["*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n", "End of the Project Gutenberg EBook\n"])
)
TEXTS = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60)
SWITCHES = st.just(ALL) | st.builds(CleanRules, **{name: st.booleans() for name in CleanRules.model_fields})
LANGUAGES = st.sampled_from(["fr", "other"])


@settings(max_examples=500, deadline=None)
@given(TEXTS, SWITCHES, LANGUAGES)
def test_cleaning_twice_is_cleaning_once(text: str, rules: CleanRules, language: Typography) -> None:
    once = clean(text, rules, language)
    assert clean(once, rules, language) == once


@settings(max_examples=150, deadline=None)
@given(TEXTS, SWITCHES, LANGUAGES, st.integers(1, 20))
def test_the_block_size_changes_nothing(text: str, rules: CleanRules, language: Typography, block: int) -> None:
    expected = clean(text, rules, language)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "BLOCK", block)
        assert clean(text, rules, language) == expected


@settings(max_examples=100, deadline=None)
@given(TEXTS, LANGUAGES)
def test_with_all_rules_off_a_text_passes_unchanged(text: str, language: Typography) -> None:
    assert clean(text, NONE, language) == text


@settings(max_examples=100, deadline=None)
@given(TEXTS, SWITCHES, LANGUAGES)
def test_the_length_changes_add_up(text: str, rules: CleanRules, language: Typography) -> None:
    counts = tallies(rules, language)
    cleaned = clean_counting(text, counts)
    assert sum(tally.length_change for tally in counts.values()) == len(cleaned) - len(text)
    assert all(tally.changes == 0 for tally in counts.values() if not tally.on)


def test_english_verse_passes_unchanged_with_all_rules_on() -> None:
    assert clean(PLAY, ALL, "other") == PLAY
    assert clean(PLAY, ALL, "fr") != PLAY


def test_every_switch_is_a_rule() -> None:
    assert {rule.name for rule in RULES} == set(CleanRules.model_fields)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("--Quoi?dit-il.", "— Quoi?dit-il."),  # no white space behind: could be an address, so it stays
        ("--Quoi?! dit-il; non!!", "— Quoi ?! dit-il ; non !!"),
        ("Il dit:--Merci.--De rien!--Ah!", "Il dit : — Merci. — De rien ! — Ah !"),
        ("–Oui, dit-il – ou presque –, et 1914–1918", "— Oui, dit-il — ou presque —, et 1914–1918"),
        ("- Oui, dit-elle.\n- I -\n-5 degrés", "— Oui, dit-elle.\n- I -\n-5 degrés"),
        ("I -- Le « Pilgrim »", "I — Le « Pilgrim »"),
        ("peut-être, dit-il, c'est-à-dire", "peut-être, dit-il, c'est-à-dire"),
        ("12:30, 3:1, 3,14 et 1.5; 1815--1816", "12:30, 3:1, 3,14 et 1.5 ; 1815--1816"),
        ("Voir http://a.fr/x_y_z--k?q=1&r=2... ou www.b.fr!", "Voir http://a.fr/x_y_z--k?q=1&r=2... ou www.b.fr!"),
        ("«Eh bien!»", "« Eh bien ! »"),
        ("«\u00a0Eh bien\u202f!\u00a0»", "« Eh bien ! »"),
        ("«Premier.\n«Second.»", "« Premier.\n« Second. »"),  # reopened at each paragraph: never balanced
        ('l\'"Orion", ("Hu!") et "fin', "l'« Orion », (« Hu ! ») et « fin"),
        ('un " seul', 'un " seul'),
        ("“Oui”, dit-il", "« Oui », dit-il"),
        ("43° 57' 12\" de latitude", "43° 57' 12\" de latitude"),
        ("Oui....\nNon!... Si ?...", "Oui…\nNon !… Si ?…"),
        ("Qui (?) et [!]", "Qui (?) et [!]"),
        ("un grinche [Notes : Un voleur.], l'arbre [22]. [...]", "un grinche, l'arbre. […]"),
        ("l'_Orion_, _18__32_, mon_fichier", "l'Orion, 1832, mon_fichier"),
        ("l\u2019e\u0301te\u0301 coeur\u00ad", "l'été coeur"),
        ("--> ----- a--", "--> ----- a —"),
    ],
)
def test_french_typography(raw: str, expected: str) -> None:
    assert clean(raw, ALL, "fr") == expected + "\n"


@pytest.mark.parametrize("name", list(CleanRules.model_fields))
def test_each_switch_turns_its_rule_off(name: str) -> None:
    raw = gutenberg_tight().replace("harmonium", "“harmonium” d’église­ [12]")
    without = CleanRules(**dict.fromkeys(CleanRules.model_fields, True) | {name: False})
    assert clean(raw, without, "fr") != clean(raw, ALL, "fr")


PROSE = "Il regardait la mer grise et le port endormi sous la pluie fine, puis il reprit sa route sans se retourner. "


def test_wrapped_prose_is_joined_and_verse_lists_and_headings_stay() -> None:
    verse = "  Il vivait. Il mourut quand il n'eut plus\n  son ange,\n"
    cast = "LE CHEVALIER.\nUN POÈTE ÉLÉGIAQUE.\nDES FEMMES.\n"
    accounts = (
        "_Pour les pauvres honteux de la ville et des faubourgs: mille livres_\n_Pour le séminaire: cent livres_\n"
    )
    raw = f"Chapitre I\n\nLe port\n\n{textwrap.fill(PROSE * 5, 70)}\n\n{verse}\n{cast}\n{accounts}"
    joined, breaks = paragraphs.unwrap(raw)
    assert joined == f"Chapitre I\nLe port\n{(PROSE * 5).strip()}\n{verse}{cast}{accounts}"
    assert breaks == textwrap.fill(PROSE * 5, 70).count("\n")
    assert paragraphs.unwrap(joined) == (joined, 0)


def test_a_hyphen_at_the_end_of_a_wrapped_line_joins_its_word() -> None:
    raw = textwrap.fill(PROSE * 9, 60) + "\nCela n'a peut-\nêtre pas de nom.\n\nFin.\n"
    assert "peut-être pas" in paragraphs.unwrap(raw)[0]


@pytest.mark.parametrize("raw", [NOVEL, NOVEL.replace("\n", "\n\n"), PLAY * 9, "a\n\nb\n", "", "\n\n"])
def test_what_is_not_wrapped_is_not_joined(raw: str) -> None:
    assert paragraphs.unwrap(raw) == (raw, 0)


def test_two_gutenberg_books_in_one_file_are_both_kept() -> None:
    start, end = "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    book = f"Header\n{start}\nProduced by Y\n\nI\n\n{{}}\n\n{end}\nLicence\n"
    kept, cut = boilerplate.gutenberg(book.format("Un.") + book.format("Deux."))
    assert kept == "I\n\nUn.\nI\n\nDeux.\n"
    assert cut > 0
    assert boilerplate.gutenberg(kept) == (kept, 0)


def test_contents_are_cut_and_a_table_in_the_story_is_not() -> None:
    entries = "".join(f"Chapitre {n} Titre {n}\n" for n in ("I", "II", "III", "IV", "V"))
    assert boilerplate.contents(f"{entries}\n\nChapitre I\n\n{PROSE}\n")[0] == f"Chapitre I\n\n{PROSE}\n"
    for story in (
        f"{PROSE} à la\ntable.\nil prit son verre et l'eau\nmonta. Ils virent\nune île. Il vit\nl'aube.\n",
        "Chapitre I La mer\n\n" + PROSE * 3 + "\n\nChapitre II Le port\n\n" + PROSE * 3 + "\n",
        NOVEL,
        "I see the sea\nI saw the ship\nI sang a song\nI sat and sighed\nI slept\nI stood\nI stayed\n",
    ):
        assert boilerplate.contents(story) == (story, 0)


def test_the_language_is_guessed() -> None:
    assert guess_language(NOVEL) == "fr"
    assert guess_language(PLAY) == "en"
    assert guess_language("Der Mond ist aufgegangen, die goldnen Sternlein prangen.") is None
    assert guess_language("") is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-32", "cp850"])
def test_known_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    raw = NOVEL.replace("—", "-").replace("…", "...")
    path = tmp_path / "texte.txt"
    path.write_bytes(raw.encode(encoding))
    assert read_text(path).text.removeprefix("\ufeff") == raw


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (NOVEL.encode() + b"\xe9\xff fin", r"byte 8,510 is bad; the rest of the file is UTF-8"),
        (b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 20, "binary file"),
        (NOVEL.encode() + b"\x00" + NOVEL.encode(), "binary file"),
        (b"\x01\x02\x03\x04 texte" * 50, "binary file"),
    ],
)
def test_what_is_not_text_is_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "texte.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_text(path)
    assert "\n" not in str(caught.value)
    assert "texte.txt" in str(caught.value)


def test_a_truncated_wide_file_names_the_bad_byte() -> None:
    with pytest.raises(UserError, match="byte 16 is bad"):
        decode("été un\n".encode("utf-16") + b"\x00", "x.txt")


def test_a_corpus_is_cleaned_file_by_file_and_reported(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.txt").write_bytes(NOVEL.replace("—", "-").replace("…", "...").encode("cp1252"))
    (own / "b.txt").write_text(gutenberg_spaced().rstrip(), encoding="utf-8")
    corpus = fetch(OwnText("own", own, (PurePosixPath("a.txt"), PurePosixPath("b.txt"))), tmp_path / "raw")
    cleaned = clean_corpus(corpus, tmp_path / "raw", Clean(language="auto", rules=ALL))
    assert cleaned.text == NOVEL + NOVEL
    assert [file.encoding for file in cleaned.files] == ["cp1252", "utf-8"]
    report = cleaning_report.figures(cleaned)
    assert report.typography == "fr"
    assert report.characters_after == 2 * len(NOVEL)
    assert report.rules["unwrap"].changes > 50
    markdown = cleaning_report.samples(cleaned)
    assert "+ — Holà ! cria-t-il" in markdown
    assert "<U+00A0>" in markdown
    assert "\u00a0" not in markdown


def test_a_corpus_too_short_after_cleaning_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "court.txt"
    path.write_text(
        "*** START OF THE PROJECT GUTENBERG EBOOK X ***\nI\n\nUn.\n*** END OF THE PROJECT GUTENBERG\n" + NOVEL
    )
    corpus = fetch(OwnText("court", tmp_path, (PurePosixPath("court.txt"),)), tmp_path / "raw")
    with pytest.raises(UserError, match=r"court.txt \(after cleaning\) has only"):
        clean_corpus(corpus, tmp_path / "raw", Clean(language="fr", rules=ALL))
