import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptmodel.data.fitting import check_fit, fit, fit_word
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.errors import UserError
from gptmodel.params import BpeTokenizer, CharTokenizer, Level, Tokenizers, WordTokenizer

ROOT = Path(__file__).parents[2]
LEVELS: tuple[Level, ...] = ("char", "word", "bpe")
SECTIONS = Tokenizers(
    char=CharTokenizer(min_count=1),
    word=WordTokenizer(vocab_size=1500, min_count=2),
    bpe=BpeTokenizer(vocab_size=600),
)
TEST_TEXT = "Œdipe aperçut les samouraïs ; les samouraïs hélaient Œdipe, vingt ñandous et Œdipe ÿ dormait.\n" * 30


def saved(tokenizer: Tokenizer, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    tokenizer.save(path)
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_the_tokenizer_of_the_training_split_passes(level: Level, french: str, tmp_path: Path) -> None:
    check_fit(saved(fit(level, french, SECTIONS), tmp_path), french, SECTIONS)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("learns_train", [True, False])
def test_a_tokenizer_that_saw_the_test_text_is_caught_and_its_tokens_named(
    level: Level, learns_train: bool, french: str, tmp_path: Path
) -> None:
    leaking = fit(level, french + TEST_TEXT if learns_train else TEST_TEXT, SECTIONS)
    with pytest.raises(UserError, match=r"tokenizer\.json has tokens that the training split never holds") as caught:
        check_fit(saved(leaking, tmp_path), french, SECTIONS)
    named = {"char": "ÿ", "word": "samouraïs", "bpe": "dipe"}[level]
    tokens = [token.decode("utf-8", "replace") for token in leaking.token_bytes]
    assert any(named in token for token in tokens)
    foreign = [token for token in tokens if repr(token) in str(caught.value)]
    assert foreign
    assert not any(token in french for token in foreign)


@pytest.mark.parametrize("level", ["word", "bpe"])
def test_a_tokenizer_that_saw_known_words_only_is_caught(level: Level, french: str, tmp_path: Path) -> None:
    half = saved(fit(level, french[: len(french) // 2], SECTIONS), tmp_path)
    with pytest.raises(UserError, match="is not the tokenizer that the training split"):
        check_fit(half, french, SECTIONS)


def test_other_values_are_other_tokenizers(french: str, tmp_path: Path) -> None:
    rare = SECTIONS.model_copy(update={"char": CharTokenizer(min_count=3)})
    with pytest.raises(UserError, match="fitted on other text or with other values"):
        check_fit(saved(fit("char", french, rare), tmp_path), french, SECTIONS)


def test_the_same_tokens_merged_otherwise_are_another_tokenizer(french: str, tmp_path: Path) -> None:
    path = saved(fit("bpe", french, SECTIONS), tmp_path)
    parts = json.loads(path.read_text(encoding="utf-8"))
    parts["model"]["merges"].reverse()
    path.write_text(json.dumps(parts), encoding="utf-8")
    with pytest.raises(UserError, match="is not the tokenizer that the training split"):
        check_fit(path, french, SECTIONS)


@pytest.mark.parametrize(("seed", "threads"), [("1", "1"), ("2", "4")])
def test_fitting_depends_on_neither_hash_seed_nor_threads(seed: str, threads: str, french: str, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from gptmodel.data.fitting import fit; from gptmodel.params import Tokenizers\n"
        "sections, text = Tokenizers.model_validate_json(sys.argv[1]), sys.stdin.buffer.read().decode()\n"
        "for level in sys.argv[2:]: fit(level, text, sections).save(pathlib.Path(f'{level}.json'))"
    )
    variables = {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(
        [sys.executable, "-c", code, SECTIONS.model_dump_json(), *LEVELS],
        input=french.encode(),
        env={**os.environ, **variables},
        cwd=tmp_path,
        check=True,
    )
    for level in LEVELS:
        assert (tmp_path / f"{level}.json").read_text(encoding="utf-8") == fit(level, french, SECTIONS).content()


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab é…\u3000\u200b\x1c\n\t中") | st.characters(exclude_categories=["Cs"])))
def test_the_pieces_of_words_are_what_their_definition_gives(text: str) -> None:
    visible = sorted(character for character in set(text) if not character.isspace())
    spelled = {token.encode() for character in visible for token in (character, " " + character) if token in text}
    spelled |= {character.encode() for character in set(text)}
    fitted = fit_word(text + "\n", 10_000, min_count=len(text) + 2)  # nothing but pieces
    begins = {
        spelling
        for spelling, continues in zip(fitted.token_bytes, fitted.continues, strict=True)
        if not continues and len(spelling) > 1
    }
    assert begins == {spelling for spelling in spelled if len(spelling) > 1}


def test_the_pieces_are_found_without_searching_the_text_for_each_character() -> None:
    class Text(str):
        def __contains__(self, key: object) -> bool:
            raise AssertionError("the whole text is searched")

    assert fit_word(Text("un été, là-bas"), 700, min_count=1).content()
