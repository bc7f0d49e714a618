"""Whole splits as ids on disk, and what one should know about them before training.

A split is encoded block by block (in parallel, unless TOKENIZERS_PARALLELISM=false), with the ids that the tokenizer
gives for the whole of it, and every block is decoded again and compared: a difference is an error. Left out on purpose:
shards; a split is one array.
"""

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gptmodel.errors import UserError
from gptmodel.files import write_json, write_text
from gptmodel.params import Level, Tokenizers
from gptmodel.progress import progress
from gptmodel.tokenizer import REPLACEMENT, Tokenizer, fit_bpe, fit_char, fit_word
from gptmodel.units import blocks

SPLITS = ("train", "validation", "test")
BLOCKS_AT_ONCE = 32  # of 65,536 characters: enough for every core, some 200 MB while their ids are Python integers
CODE_POINTS = 0x110000

Ids = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class SplitStatistics:
    """The figures of one split, counted over the whole of it."""

    characters: int
    bytes: int  # in UTF-8
    tokens: int
    characters_per_token: float  # 0 for an empty split
    words: int  # separated by white space
    spelled_share: float  # share of the units that are spelled because the vocabulary lacks them; 0 at char and bpe
    unknown_characters: int  # how many characters became the unknown token; char level only
    unknown_distinct: str  # which ones, sorted


def fit(level: Level, text: str, sections: Tokenizers) -> Tokenizer:
    """Fit the tokenizer of `level` to the training text, as params.yaml says."""
    if not text:
        raise UserError("the training split is empty: choose a longer corpus or a larger split.train")
    match level:
        case "char":
            return fit_char(text, sections.char.min_count)
        case "word":
            return fit_word(text, sections.word.vocab_size, sections.word.min_count)
        case "bpe":
            return fit_bpe(text, sections.bpe.vocab_size)


def read_splits(folder: Path) -> dict[str, str]:
    """Return the texts of train.txt, validation.txt and test.txt with their line ends untouched."""
    texts = {}
    for split in SPLITS:
        path = folder / f"{split}.txt"
        try:
            texts[split] = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: run the clean stage first (dvc repro clean)") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 (byte {error.start}): run the clean stage again") from None
    return texts


def encode_splits(tokenizer: Tokenizer, texts: dict[str, str], folder: Path) -> pd.DataFrame:
    """Write SPLIT.npy for each text, tokenizer.json, stats.json and stats.csv into `folder`; return the table."""
    tokenizer.save(folder / "tokenizer.json")
    splits = {}
    for split, text in texts.items():
        ids = encode_split(tokenizer, text, split)
        whole = io.BytesIO()  # np.save to a file does not say that the disk is full
        np.save(whole, ids)
        (folder / f"{split}.npy").write_bytes(whole.getbuffer())
        splits[split] = asdict(split_statistics(tokenizer, text, ids))
    head = {"level": tokenizer.level, "vocab_size": tokenizer.vocab_size}
    write_json(folder / "stats.json", {**head, "splits": splits})
    table = pd.DataFrame([{**head, "split": split, **figures} for split, figures in splits.items()])
    write_text(folder / "stats.csv", table.to_csv(index=False, lineterminator="\n"))
    return table


def encode_split(tokenizer: Tokenizer, text: str, title: str) -> Ids:
    """Return the ids of `text`, shape (tokens,), uint16 if they fit, else uint32: those of `tokenizer.encode(text)`.

    Raises `RuntimeError` if decoding any block does not give it back (at char level: up to unknown characters).
    """
    dtype: type[np.unsignedinteger] = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    encoded: list[Ids] = []
    done = 0
    with progress(f"encode {title} ({tokenizer.level})", len(text), "characters") as update:
        for block, ids in _encoded_blocks(tokenizer, text):
            lost = dict.fromkeys(map(ord, _unknown(tokenizer, block, ids)), REPLACEMENT)
            if tokenizer.decode(ids) != (block.translate(lost) if lost else block):
                raise RuntimeError(f"{title}: the text from character {done:,} on does not survive encoding")
            encoded.append(ids.astype(dtype))
            done += len(block)
            update(done)
    return np.concatenate(encoded) if encoded else np.zeros(0, dtype)


def split_statistics(tokenizer: Tokenizer, text: str, ids: Ids) -> SplitStatistics:
    """Count what the table shows; blocks keep the memory small."""
    unknown = _unknown(tokenizer, text, ids)
    return SplitStatistics(
        characters=len(text),
        bytes=sum(len(block.encode()) for block in blocks(text)),
        tokens=len(ids),
        characters_per_token=round(len(text) / len(ids), 4) if len(ids) else 0.0,
        words=sum(len(block.split()) for block in blocks(text)),
        spelled_share=round(_spelled_share(tokenizer, ids), 4),
        unknown_characters=len(unknown),
        unknown_distinct="".join(sorted(set(unknown))),
    )


def _unknown(tokenizer: Tokenizer, text: str, ids: NDArray[np.integer]) -> list[str]:
    """Return each character that became the unknown token (char level only, where ids and characters pair off)."""
    if tokenizer.unknown_id is None:
        return []
    return [text[position] for position in np.flatnonzero(ids == tokenizer.unknown_id)]


def _spelled_share(tokenizer: Tokenizer, ids: Ids) -> float:
    """Share of the units that continue past their first token: those, and only those, are not in the vocabulary."""
    continues = tokenizer.continues[ids]
    units = len(ids) - int(continues.sum())
    spelled = int((continues[1:] & ~continues[:-1]).sum())
    return spelled / units if units and tokenizer.level == "word" else 0.0


def _encoded_blocks(tokenizer: Tokenizer, text: str) -> Iterator[tuple[str, NDArray[np.integer]]]:
    """Yield each block of `text` with its ids."""
    if tokenizer.level == "char":
        table = _character_table(tokenizer)
        for block in blocks(text):
            yield block, table[np.frombuffer(block.encode("utf-32-le"), dtype="<u4")]
        return
    rest = blocks(text)
    while batch := list(islice(rest, BLOCKS_AT_ONCE)):
        yield from zip(batch, tokenizer.encode_batch(batch), strict=True)


def _character_table(tokenizer: Tokenizer) -> NDArray[np.uint32]:
    """The id of every Unicode code point, shape (0x110000,): one look-up replaces the tokenizer's whole work."""
    table = np.full(CODE_POINTS, tokenizer.unknown_id, dtype=np.uint32)
    for index, spelled in enumerate(tokenizer.token_bytes):
        if index != tokenizer.unknown_id:
            table[ord(spelled.decode())] = index
    return table
