import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.data.fitting import fit_bpe, fit_char, fit_word
from gptmodel.data.pretokenizer import blocks, units
from gptmodel.data.tokenizer import CONTINUES, UNKNOWN, Tokenizer
from gptmodel.errors import UserError

BOOK = """Il était une fois un chat, l'ami d'un vieux meunier. — Où vas-tu ? dit-il ; qu'as-tu donc aujourd'hui ?

« Peut-être, répondit le chat, irai-je là-bas… jusqu'à la ville ! » Le meunier et le chat s'en allèrent.

En 1832, le chat, le vieux chat du meunier, vit la ville : c'était l'été, et le meunier vit le chat.
"""
TOKENIZERS = {"char": fit_char(BOOK, 1), "word": fit_word(BOOK, 700, 2), "bpe": fit_bpe(BOOK, 300)}
LOSSLESS = ["word", "bpe"]
Parts = dict[str, Any]
ODD = [
    *(
        "l'",
        "d’",
        "-t-il",
        "-là",
        "chat",
        " chat",
        " ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "\0",
        "\u2028",
        "\u00a0",
        "e\u0301",
    ),
    *("👩\u200d👧", "漢字", CONTINUES, CONTINUES + "a", "##a", UNKNOWN, "Ġ", "\ufffd", "7", "…", "«", "-", "'", "_"),
]
texts = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=5)), max_size=12).map("".join)
laws = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("level", LOSSLESS)
@laws
@given(text=texts)
def test_any_text_survives(level: str, text: str) -> None:
    tokenizer = TOKENIZERS[level]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unknown_characters(text) == []


@laws
@given(text=texts)
def test_char_loses_exactly_the_unknown_characters(text: str) -> None:
    tokenizer = TOKENIZERS["char"]
    ids, unknown = tokenizer.encode(text), tokenizer.unknown_characters(text)
    assert len(ids) == len(text)
    assert [c for c, i in zip(text, ids, strict=True) if i == tokenizer.unknown_id] == [c for c in text if c in unknown]
    assert unknown == list(dict.fromkeys(c for c in text if c not in BOOK))
    assert tokenizer.decode(ids) == "".join("\ufffd" if c in unknown else c for c in text)


@pytest.mark.parametrize("level", TOKENIZERS)
def test_the_saved_file_means_the_same_to_the_plain_library(level: str, tmp_path: Path) -> None:
    ours, path = TOKENIZERS[level], tmp_path / "tokenizer.json"
    ours.save(path)
    plain, again = tokenizers.Tokenizer.from_file(str(path)), Tokenizer.load(path)
    assert (again.level, again.vocab_size, again.unknown_id) == (level, plain.get_vocab_size(), ours.unknown_id)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()

    @laws
    @given(text=texts, ids=st.lists(st.integers(0, ours.vocab_size - 1), max_size=20))
    def same(text: str, ids: list[int]) -> None:
        assert plain.encode(text).ids == ours.encode(text).tolist() == again.encode(text).tolist()
        assert plain.decode(ids) == ours.decode(ids) == again.decode(np.array(ids, dtype=np.uint16))

    same()


@pytest.mark.parametrize("level", TOKENIZERS)
@laws
@given(data=st.data(), text=texts)
def test_the_stream_says_what_decode_says_and_splits_no_character(level: str, data: st.DataObject, text: str) -> None:
    tokenizer = TOKENIZERS[level]
    any_ids = st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=20)
    for ids in (data.draw(any_ids), tokenizer.encode(text).tolist()):
        stream = tokenizer.stream()
        assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)
    stream = tokenizer.stream()
    pushed = "".join(map(stream.push, tokenizer.encode("Où ça ? 👩\u200d👧 漢")))
    assert stream.flush() == ""
    assert level == "char" or pushed == "Où ça ? 👩\u200d👧 漢"


@pytest.mark.parametrize("level", TOKENIZERS)
@laws
@given(text=texts, characters=st.integers(1, 12))
def test_blocks_have_the_ids_of_the_whole(level: str, text: str, characters: int) -> None:
    tokenizer = TOKENIZERS[level]
    parts = list(blocks(text, characters))
    assert "".join(parts) == text
    assert np.concatenate([[], *tokenizer.encode_batch(parts)]).tolist() == tokenizer.encode(text).tolist()
    assert all(len(part) >= characters for part in parts[:-1])


@laws
@given(text=texts)
def test_units_lose_nothing(text: str) -> None:
    assert "".join(units(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L'homme qu'il aime jusqu’à", "L'|homme| qu'|il| aime| jusqu’|à"),
        ("aujourd'hui, AUJOURD’HUI presqu'île quelqu'un", "aujourd'hui|,| AUJOURD’HUI| presqu'île| quelqu'un"),
        ("un chef-d'œuvre, la grand'mère entr'ouvrit", "un| chef-d'œuvre|,| la| grand'mère| entr'ouvrit"),
        ("dit-il a-t-elle va-t'en", "dit|-il| a|-t-elle| va|-t'|en"),
        ("donne-le-moi ces jours-là est-ce", "donne|-le|-moi| ces| jours|-là| est|-ce"),
        ("peut-être là-bas arc-en-ciel moi-même", "peut-être| là-bas| arc-en-ciel| moi-même"),
        ("c'est-à-dire, ira-t-on là ?", "c'|est-à-dire|,| ira|-t-on| là| ?"),
        ("« Ah ! » — Oui… l'« ami »", "«| Ah| !| »| —| Oui|…| l'|«| ami| »"),
        ("'tis the dogs' --1832", "'|tis| the| dogs|'| -|-|1|8|3|2"),
        ("a  b\n\n\nc \n\r\n\td", "a| | b|\n\n\n|c| |\n|\r|\n|\t|d"),
        ("-Il dit", "-|Il| dit"),
    ],
)
def test_units_of_french(text: str, expected: str) -> None:
    assert units(text) == expected.split("|")


def test_char_vocabulary_is_sorted_after_unknown() -> None:
    tokenizer = fit_char("baobab", min_count=1)
    assert (tokenizer.level, tokenizer.vocab_size, tokenizer.unknown_id) == ("char", 4, 0)
    assert tokenizer.token_bytes == ["\ufffd".encode(), b"a", b"b", b"o"]
    assert fit_char("baobab", min_count=2).unknown_characters("baobab!o") == ["o", "!"]
    with pytest.raises(UserError, match="min_count"):
        fit_char("baobab", min_count=4)


def test_word_keeps_the_most_frequent_units_and_spells_the_rest() -> None:
    tokenizer = TOKENIZERS["word"]
    frequent = {unit for unit, count in Counter(units(BOOK)).items() if count >= 2}
    ids = tokenizer.encode(BOOK)
    starts = np.flatnonzero(~tokenizer.continues[ids])
    cut = [group.tolist() for group in np.split(ids, starts[1:])]
    assert [tokenizer.decode(group) for group in cut] == units(BOOK)
    for unit, group in zip(units(BOOK), cut, strict=True):
        assert (len(group) == 1) == (unit in frequent or len(unit.strip()) <= 1), unit
    assert fit_word(" bb bb aa aa cc cc cc", 700, 2).token_bytes[-3:] == [b" cc", b" aa", b" bb"]


def test_word_spelling_is_greedy_from_the_longest_known_beginning() -> None:
    tokenizer = TOKENIZERS["word"]
    ids = tokenizer.encode(" chatons voient 漢")
    spelled = [tokenizer.token_bytes[i] for i in ids]
    assert spelled == [
        b" chat",
        *b"o n s".split(),
        b" v",
        *b"o i e n t".split(),
        b" ",
        *(bytes([b]) for b in "漢".encode()),
    ]
    assert tokenizer.continues[ids].tolist() == [False, *[True] * 3, False, *[True] * 5, False, *[True] * 3]
    assert not TOKENIZERS["bpe"].continues.any()


def test_word_vocabulary_has_room_for_the_pieces_or_says_so() -> None:
    pieces = fit_word(BOOK, 10_000, len(BOOK)).vocab_size
    assert fit_word(BOOK, pieces, 1).vocab_size == pieces
    assert fit_word(BOOK, pieces + 7, 1).vocab_size == pieces + 7
    with pytest.raises(UserError, match=rf"{pieces - 1}.*{pieces} pieces.*raise it"):
        fit_word(BOOK, pieces - 1, 1)


def test_bpe_has_all_bytes_and_merges_up_to_the_size() -> None:
    assert TOKENIZERS["bpe"].vocab_size == 300
    assert sorted(TOKENIZERS["bpe"].token_bytes[:256]) == [bytes([byte]) for byte in range(256)]
    assert fit_bpe("aa", 1000).vocab_size == 257
    assert [len(fit_bpe(BOOK, size).encode(BOOK)) for size in (256, 300, 400)] == sorted(
        [len(fit_bpe(BOOK, size).encode(BOOK)) for size in (256, 300, 400)], reverse=True
    )
    with pytest.raises(UserError, match="256"):
        fit_bpe(BOOK, 255)


def test_the_same_text_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8")
    code = """if True:
        from pathlib import Path
        from gptmodel.data.fitting import fit_bpe, fit_char, fit_word
        book = Path("book.txt").read_text(encoding="utf-8")
        fit_char(book, 1).save(Path("char.json"))
        fit_word(book, 700, 2).save(Path("word.json"))
        fit_bpe(book, 300).save(Path("bpe.json"))
    """
    source = str(Path(__file__).parents[2] / "src")
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONPATH": source, "PYTHONHASHSEED": "7"}
    )
    for level, here in TOKENIZERS.items():
        here.save(tmp_path / "here.json")
        assert (tmp_path / "here.json").read_bytes() == (tmp_path / f"{level}.json").read_bytes()


@pytest.mark.parametrize("level", LOSSLESS)
@pytest.mark.parametrize("part", ["a", "é-", "-la", "漢", "'", "a'", " ", "\n", "!"])
def test_a_long_run_takes_no_quadratic_time(level: str, part: str) -> None:
    run = part * (100_000 // len(part))
    assert TOKENIZERS[level].decode(TOKENIZERS[level].encode(run)) == run


def test_a_tokenizer_file_that_is_not_ours_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(UserError, match=r"tokenizer\.json does not exist"):
        Tokenizer.load(path)
    TOKENIZERS["bpe"].save(path)
    whole = path.read_text(encoding="utf-8")
    broken = json.loads(whole)
    broken["model"]["merges"] = [["no", "such"]]
    foreign = json.loads(whole)
    foreign["normalizer"] = {"type": "Lowercase"}
    added = tokenizers.Tokenizer.from_str(whole)
    added.add_special_tokens(["<|endoftext|>"])
    for content, problem in {
        whole[: len(whole) // 2]: "damaged",
        "": "damaged",
        json.dumps(broken): "damaged",
        json.dumps(foreign): "not a tokenizer of this project",
        added.to_str(): "not a tokenizer of this project",
        "[1, 2]": "not a tokenizer of this project",
        '{"model": {"type": "Unigram"}, "decoder": null}': "not a tokenizer of this project",
    }.items():
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=f"^{path} is .*{problem}") as caught:
            Tokenizer.load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="damaged"):
        Tokenizer.load(path)


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(UserError, match="Unicode"):
        TOKENIZERS["char"].encode("caf\udce9")


def other_token(old: str, new: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        vocabulary = parts["model"]["vocab"]
        vocabulary[new] = vocabulary.pop(old)

    return change


CUT = {"max_length": 3, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
UNSPEAKABLE: dict[str, tuple[str, Callable[[Parts], object]]] = {
    "ids that do not run from 0 on": ("char", lambda parts: parts["model"]["vocab"].update({"a": 999})),
    "no unknown token": ("char", other_token(UNKNOWN, "ab")),
    "letters that are no bytes": ("bpe", other_token("!", "漢")),
    "a byte without piece": ("word", other_token("!", "!!")),
    "an unknown token that is nowhere": ("bpe", lambda parts: parts["model"].update(unk_token=UNKNOWN)),
    "short words only": ("word", lambda parts: parts["model"].update(max_input_chars_per_word=9)),
    "no cut into units": ("word", lambda parts: parts.update(pre_tokenizer=None)),
    "long texts cut": ("char", lambda parts: parts.update(truncation=CUT)),
}


@pytest.mark.parametrize("what", UNSPEAKABLE)
def test_a_tokenizer_that_could_not_spell_every_text_is_refused(tmp_path: Path, what: str) -> None:
    level, change = UNSPEAKABLE[what]
    parts = json.loads(TOKENIZERS[level].content())
    change(parts)
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts), encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer\.json is (damaged|not a tokenizer of this project)"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_cuts_words_as_another_version_is_read(tmp_path: Path) -> None:
    content = TOKENIZERS["word"].content().replace("aujourd", "hier")
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    assert Tokenizer.load(tmp_path / "tokenizer.json").vocab_size == TOKENIZERS["word"].vocab_size
