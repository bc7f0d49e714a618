import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from gptmodel.data.fitting import fit_bpe, fit_char, fit_word
from gptmodel.data.tokenizer import spans
from gptmodel.errors import UserError
from gptmodel.evaluation.surprisal import CharacterCosts, character_nats, characters_per_token
from gptmodel.results.corpus import SplitName

BOOK = "Il était une fois un chat, l'ami d'un vieux meunier.\nOù vas-tu ? dit-il ; « Là-bas », répondit le chat.\n" * 3
TOKENIZERS = {"char": fit_char(BOOK, 1), "word": fit_word(BOOK, 700, 2), "bpe": fit_bpe(BOOK, 300)}
texts = st.lists(st.sampled_from([*"aéœ€ \n«", "👩", "漢", "chat", " meunier"]), min_size=1, max_size=12).map("".join)
laws = settings(max_examples=50, deadline=None)


def costs_of(tokens: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 9, size=tokens)


@pytest.mark.parametrize("level", TOKENIZERS)
@laws
@given(text=texts)
def test_the_characters_cost_what_the_tokens_cost(level: str, text: str) -> None:
    tokenizer = TOKENIZERS[level]
    ids = tokenizer.encode(text)
    paid = costs_of(len(ids))
    nats = character_nats(tokenizer, ids, paid, text)
    assert nats.shape == (len(text),)
    assert nats.sum() == pytest.approx(paid.sum())
    for token, (start, end) in enumerate(spans(tokenizer, ids, text)):
        alone = np.where(np.arange(len(ids)) == token, paid, 0)
        cost = character_nats(tokenizer, ids, alone, text)
        assert np.flatnonzero(cost).tolist() == list(range(start, end))  # what the token touches, and nothing else


@pytest.mark.parametrize("level", TOKENIZERS)
@laws
@given(text=texts)
def test_the_spans_cover_the_text_in_order(level: str, text: str) -> None:
    tokenizer = TOKENIZERS[level]
    ids = tokenizer.encode(text)
    place = spans(tokenizer, ids, text)
    assert place[0, 0] == 0
    assert place[-1, 1] == len(text)
    assert (place[1:, 0] <= place[:-1, 1]).all()  # no gap
    assert (place[1:, 0] >= place[:-1, 0]).all()
    for token, (start, end) in zip(ids.tolist(), place, strict=True):
        if token != tokenizer.unknown_id:
            assert tokenizer.token_bytes[token] in text[start:end].encode()
    characters = characters_per_token(tokenizer, ids, text)
    assert characters.sum() == pytest.approx(len(text))
    assert (characters <= place[:, 1] - place[:, 0] + 1e-9).all()


def test_a_char_token_is_a_character_even_where_it_is_unknown() -> None:
    tokenizer, text = TOKENIZERS["char"], "chat 漢é"
    ids = tokenizer.encode(text)
    assert ids[5] == tokenizer.unknown_id
    assert spans(tokenizer, ids, text).tolist() == [[place, place + 1] for place in range(7)]
    assert character_nats(tokenizer, ids, np.arange(7.0), text) == pytest.approx(np.arange(7.0))


def test_a_character_that_is_spelled_byte_by_byte_costs_its_tokens() -> None:
    tokenizer, text = TOKENIZERS["bpe"], "a漢"  # 漢 has three bytes, and the book none of them together
    ids = tokenizer.encode(text)
    assert spans(tokenizer, ids, text).tolist() == [[0, 1], [1, 2], [1, 2], [1, 2]]
    assert character_nats(tokenizer, ids, np.array([1.0, 2.0, 4.0, 8.0]), text) == pytest.approx([1, 14])
    assert characters_per_token(tokenizer, ids, text) == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])


def test_nats_are_spread_over_bytes() -> None:
    tokenizer, text = TOKENIZERS["word"], "était"
    ids = tokenizer.encode(" était")
    assert len(ids) == 1
    assert character_nats(tokenizer, ids, np.array([7.0]), " " + text) == pytest.approx([1, 2, 1, 1, 1, 1])  # é: 2


@pytest.mark.parametrize("level", TOKENIZERS)
def test_the_ids_of_another_text_are_refused(level: str) -> None:
    tokenizer = TOKENIZERS[level]
    ids = tokenizer.encode("un chat")
    for text in ["un chat ", "un cha", ""]:
        with pytest.raises(UserError, match="encode"):
            spans(tokenizer, ids, text)


def costs() -> CharacterCosts:
    texts: dict[SplitName, str] = {"train": "Ici !", "validation": "Où ?", "test": "Là."}
    return CharacterCosts.of({split: costs_of(len(text)) for split, text in texts.items() if split != "train"}, texts)


def test_costs_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = costs()
    written.write(tmp_path / "surprisal.safetensors")
    read = CharacterCosts.read(tmp_path / "surprisal.safetensors")
    assert read.sha256 == written.sha256
    assert read.sha256["test"] == "ca3a061b0394f83c72cc0953e90545ed1e0c3a4d374511e2322d1cda300c9db2"
    assert list(read.nats) == ["validation", "test"]
    for split, values in written.nats.items():
        assert read.nats[split].dtype == np.float32
        assert (read.nats[split] == values).all()
    plain = load_file(tmp_path / "surprisal.safetensors")  # as anyone reads it
    assert (plain["test"] == written.nats["test"]).all()


def test_equal_costs_give_equal_bytes_in_any_process(tmp_path: Path) -> None:
    """Each process has hash seeds of its own, and safetensors orders what it is given by them."""
    code = (
        "import pathlib, sys, numpy as np; from gptmodel.evaluation.surprisal import CharacterCosts\n"
        "nats = {split: np.arange(5.0) for split in ('validation', 'test')}\n"
        "CharacterCosts.of(nats, dict.fromkeys(nats, 'Là ?!')).write(pathlib.Path(sys.argv[1]))"
    )
    for name in "abcd":
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "surprisal.safetensors"
    with pytest.raises(UserError, match=r"surprisal\.safetensors does not exist: run `dvc repro`"):
        CharacterCosts.read(path)
    for content in [b"", b"no safetensors file", np.float32(1).tobytes()]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"surprisal\.safetensors is damaged"):
            CharacterCosts.read(path)
    digest, numbers = "0" * 64, np.zeros(3, np.float32)
    foreign: list[tuple[dict[str, np.ndarray], object]] = [
        ({}, {"texts": {}, "costs": digest}),
        ({"test": numbers}, {}),
        ({"test": np.zeros(3)}, {"texts": {"test": digest}, "costs": digest}),
        ({"test": np.zeros((3, 1), np.float32)}, {"texts": {"test": digest}, "costs": digest}),
        ({"test": numbers}, {"texts": {"test": "short"}, "costs": digest}),
        ({"test": numbers}, {"texts": {"validation": digest}, "costs": digest}),
        ({"train": numbers}, {"texts": {"train": digest}, "costs": digest}),
    ]
    for arrays, hashes in foreign:
        save_file(arrays, path, {"sha256": json.dumps(hashes)})
        with pytest.raises(UserError, match=r"surprisal\.safetensors does not hold the costs of characters"):
            CharacterCosts.read(path)
    save_file({"test": numbers}, path)
    with pytest.raises(UserError, match=r"surprisal\.safetensors does not hold the costs of characters"):
        CharacterCosts.read(path)
    save_file({"test": numbers}, path, {"sha256": json.dumps({"texts": {"test": digest}, "costs": digest})})
    with pytest.raises(UserError, match=r"surprisal\.safetensors is damaged \(its SHA-256 differs\)"):
        CharacterCosts.read(path)


def test_damage_is_found_wherever_it_is(tmp_path: Path) -> None:
    path, written = tmp_path / "surprisal.safetensors", costs()
    written.write(path)
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 29)]
    damaged += [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(0, len(whole), 3)]
    found = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            read = CharacterCosts.read(path)
        except UserError:
            found += 1
        else:  # a blank in the header
            assert read.sha256 == written.sha256
            assert all((read.nats[split] == written.nats[split]).all() for split in written.nats)
    assert found > len(damaged) / 2


def test_a_write_that_fails_leaves_the_old_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "surprisal.safetensors"
    costs().write(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        costs().write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reading_costs_needs_no_torch(tmp_path: Path) -> None:
    costs().write(tmp_path / "costs")
    code = (
        "import pathlib, sys; from gptmodel.evaluation.comparison import CharacterCosts\n"
        "CharacterCosts.read(pathlib.Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "costs")], check=True)
