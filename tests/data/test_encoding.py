import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.data.corpus import read_facts, write_clean
from gptmodel.data.dataset import Dataset
from gptmodel.data.encoding import encode_split, split_statistics, table
from gptmodel.data.fitting import fit_bpe, fit_char, fit_word
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.results.corpus import FetchedCorpus, SplitName
from gptmodel.results.tokens import TokenStatistics
from pipelines import encode

REPOSITORY = Path(__file__).parents[2]
BOOK = "Le vieux meunier, dit-il, n'avait qu'un chat.\n\n— Peut-être ! l'ami… Le chat, « le vieux », en 1832 ?\n" * 3
TEXTS: dict[SplitName, str] = {"train": BOOK, "validation": "un chat ñ.\n", "test": ""}
FETCHED = FetchedCorpus(
    title="Le chat", author=None, year=None, language=None, licence="mine", source="here", name="chat", files=[]
)
TOKENIZERS = {"char": fit_char(BOOK, 1), "word": fit_word(BOOK, 600, 2), "bpe": fit_bpe(BOOK, 300)}


@pytest.mark.parametrize("level", TOKENIZERS)
def test_a_split_of_many_blocks_has_the_ids_of_the_whole(level: str) -> None:
    text = (BOOK + "Ça, été ☃ \n\n\n  zut-là") * 1500  # several batches' worth of line ends; characters never seen
    ids = encode_split(TOKENIZERS[level], text, "test")
    assert ids.dtype == np.uint16
    assert np.array_equal(ids, TOKENIZERS[level].encode(text))


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(BOOK)), max_size=60))
def test_the_character_table_gives_the_ids_of_the_tokenizer(text: str) -> None:
    tokenizer = TOKENIZERS["char"]
    assert encode_split(tokenizer, text, "test").tolist() == tokenizer.encode(text).tolist()


def test_a_large_vocabulary_takes_four_bytes_per_id() -> None:
    text = "".join(map(chr, range(0x10000, 0x10000 + 65_536)))
    assert encode_split(fit_char(text[1:], 1), text, "test").dtype == np.uint16  # 65,536 with the unknown token
    ids = encode_split(fit_char(text, 1), text, "test")
    assert ids.dtype == np.uint32
    assert ids.tolist() == list(range(1, 65_537))


def test_a_tokenizer_that_loses_text_is_an_error() -> None:
    inner = tokenizers.Tokenizer.from_str(fit_bpe(BOOK, 300)._inner.to_str())
    inner.normalizer = tokenizers.normalizers.Lowercase()
    with pytest.raises(RuntimeError, match="train: the text from character 0 on does not survive"):
        encode_split(Tokenizer(inner), BOOK, "train")


def test_statistics_counted_by_hand() -> None:
    text = "Le chat vit.\n\nñ ñ ☃"
    word, char = (
        split_statistics(TOKENIZERS[level], text, encode_split(TOKENIZERS[level], text, "test"))
        for level in ("word", "char")
    )
    assert (word.characters, word.bytes, word.words) == (19, 23, 6)
    # units: Le, chat, vit, ., \n\n, ñ, ñ with its space, ☃ with its space; vit and all that training never saw: spelled
    assert word.spelled_share == 4 / 8
    assert (word.unknown_characters, word.unknown_distinct) == (0, "")
    assert (char.tokens, char.characters_per_token, char.spelled_share) == (19, 1.0, 0.0)
    assert (char.unknown_characters, char.unknown_distinct) == (3, "ñ☃")
    empty = split_statistics(TOKENIZERS["word"], "", encode_split(TOKENIZERS["word"], "", "test"))
    assert set(dict(empty).values()) == {0, ""}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    write_clean(tmp_path / "data/clean", FETCHED, "fr", TEXTS, ["Il "])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("level", TOKENIZERS)
def test_the_stage_writes_what_training_reads(level: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["encode", level])
    encode.main()
    folder = workspace / "data/tokens" / level
    names = {"train.npy", "validation.npy", "test.npy", "tokenizer.json", "stats.json", "text.json"}
    assert {path.name for path in folder.iterdir()} == names
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    stats = TokenStatistics.read(folder / "stats.json")
    assert (stats.level, stats.vocab_size) == (level, tokenizer.vocab_size)
    data = Dataset.read(folder)
    assert data.text == read_facts(workspace / "data/clean/text")
    assert data.characters == {split: len(text) for split, text in TEXTS.items()}
    for split, text in TEXTS.items():
        assert tokenizer.decode(data.ids[split]) == (text.replace("ñ", "\ufffd") if level == "char" else text)
        assert (stats.splits[split].tokens, stats.splits[split].characters) == (len(data.ids[split]), len(text))
    assert stats.splits["validation"].unknown_characters == (1 if level == "char" else 0)
    rows = table(stats).set_index("split")
    assert rows["tokens"].to_dict() == {split: figures.tokens for split, figures in stats.splits.items()}
    assert set(rows["level"]) == {level}
    before = {name: (folder / name).read_bytes() for name in names}
    encode.main()
    assert {name: (folder / name).read_bytes() for name in names} == before


@pytest.mark.parametrize(
    ("arguments", "broken", "message"),
    [
        (["syllable"], None, "unknown level 'syllable': give one of char, word, bpe"),
        ([], None, "unknown level ''"),
        (["char"], lambda clean: (clean / "test.txt").unlink(), "test.txt does not exist: run the clean stage"),
        (
            ["char"],
            lambda clean: (clean / "text.json").unlink(),
            "text.json does not exist: run `dvc repro`",
        ),
        (
            ["char"],
            lambda clean: write_clean(clean.parent, FETCHED, "fr", {**TEXTS, "train": ""}, ["Il "]),
            "split is empty",
        ),
        (["bpe"], lambda clean: (clean / "train.txt").write_bytes(b"caf\xe9"), "train.txt was altered (its SHA-256"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    broken: Callable[[Path], object] | None,
    message: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["encode", *arguments])
    if broken:
        broken(workspace / "data/clean/text")
    with pytest.raises(SystemExit) as caught:
        encode.main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (workspace / "data/tokens").exists() or not list((workspace / "data/tokens").iterdir())
