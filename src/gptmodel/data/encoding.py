"""Whole splits as ids on disk, and what one should know about them before training.

A split is encoded block by block (in parallel, unless TOKENIZERS_PARALLELISM=false), with the ids that the tokenizer
gives for the whole of it, and every block is decoded again and compared: a difference is an error.
"""

import io
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gptmodel import files
from gptmodel.arrays import Ids
from gptmodel.data.corpus import FACTS
from gptmodel.data.pretokenizer import blocks
from gptmodel.data.tokenizer import REPLACEMENT, Tokenizer
from gptmodel.progress import progress
from gptmodel.results.corpus import SplitName, TextFacts
from gptmodel.results.tokens import SplitStatistics, TokenStatistics

STATISTICS = "stats.json"
BLOCKS_AT_ONCE = 32  # of 65,536 characters: enough for every core, some 200 MB while their ids are Python integers
CODE_POINTS = 0x110000


def encode_splits(
    tokenizer: Tokenizer, texts: Mapping[SplitName, str], facts: TextFacts, folder: Path
) -> TokenStatistics:
    """Write SPLIT.npy for each text, tokenizer.json, text.json and stats.json into `folder`; return the last."""
    tokenizer.save(folder / "tokenizer.json")
    facts.write(folder / FACTS)
    splits: dict[SplitName, SplitStatistics] = {}
    for split, text in texts.items():
        ids = encode_split(tokenizer, text, split)
        whole = io.BytesIO()  # np.save to a file does not say that the disk is full
        np.save(whole, ids)
        files.write_bytes(folder / f"{split}.npy", whole.getbuffer())
        splits[split] = split_statistics(tokenizer, text, ids)
    statistics = TokenStatistics(level=tokenizer.level, vocab_size=tokenizer.vocab_size, splits=splits)
    statistics.write(folder / STATISTICS)
    return statistics


def table(statistics: TokenStatistics) -> pd.DataFrame:
    """Return a row for each split."""
    head = {"level": statistics.level, "vocab_size": statistics.vocab_size}
    return pd.DataFrame([{**head, "split": name, **dict(split)} for name, split in statistics.splits.items()])


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
