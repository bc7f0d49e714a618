"""Fitting a tokenizer to the training text: characters, French words, or byte pairs.

Apart from `tokenizer`, which applies one: a bundle needs no fitting.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from tokenizers import models, trainers

from gptmodel.data.pretokenizer import blocks
from gptmodel.data.tokenizer import (
    CONTINUES,
    UNKNOWN,
    Tokenizer,
    assemble,
    byte_letters,
    byte_level_units,
    byte_pieces,
    word_pieces,
)
from gptmodel.errors import UserError
from gptmodel.params import Level, Tokenizers
from gptmodel.progress import progress

NAMED = 5  # tokens in a message
AFTER_SPACE = re.compile(r"(?<= )\S")


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


def check_fit(path: Path, train_text: str, sections: Tokenizers) -> None:
    """See that the tokenizer in a file is, byte for byte, the one that the training split alone gives.

    Fitting is deterministic at every level. `UserError` if it differs, with the tokens that the split never holds.
    """
    found = Tokenizer.load(path)
    fitted = fit(found.level, train_text, sections)
    if fitted.content().encode() == path.read_bytes():
        return
    train_bytes, own = train_text.encode(), set(fitted.token_bytes)
    foreign = [token for token in found.token_bytes if token not in own and token not in train_bytes]
    if not foreign:
        raise UserError(
            f"{path} is not the tokenizer that the training split and params.yaml give: it was fitted on other text "
            "or with other values; run `dvc repro` from encode on"
        )
    named = ", ".join(repr(token.decode("utf-8", "replace")) for token in foreign[:NAMED])
    more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
    raise UserError(
        f"{path} has tokens that the training split never holds ({named}{more}): it was fitted on text that it must "
        "not know; run `dvc repro` from encode on"
    )


def fit_char(text: str, min_count: int) -> Tokenizer:
    """One token per character that `text` holds at least `min_count` times, sorted, after `<unk>` as id 0.

    >>> fit_char("papa", min_count=1).encode("pape")
    array([2, 1, 2, 0])
    """
    kept = sorted(character for character, count in Counter(text).items() if count >= min_count)
    if not kept:
        raise UserError(f"no character occurs {min_count} times in the training text: lower tokenizers.char.min_count")
    vocabulary = {token: index for index, token in enumerate([UNKNOWN, *kept])}
    return assemble(models.WordLevel(vocabulary, unk_token=UNKNOWN))


def fit_word(text: str, vocab_size: int, min_count: int) -> Tokenizer:
    """The most frequent units of `text` (see `units`), and the pieces that spell all others.

    The vocabulary has at most `vocab_size` tokens: first the pieces, then the units seen at least `min_count` times,
    the most frequent first, equals in alphabetical order. A unit outside it is cut greedily into the longest pieces
    (WordPiece): a known unit that begins it, or its first character with the space before it, then its other characters
    one by one, bytes where training never saw the character.

    >>> spelled = fit_word("un chat", vocab_size=600, min_count=1)
    >>> [spelled.decode([i]) for i in spelled.encode("un chaton")]
    ['un', ' chat', 'o', 'n']
    """
    pieces = _pieces(text)
    if len(pieces) > vocab_size:
        raise UserError(
            f"tokenizers.word.vocab_size is {vocab_size}, but the {len(pieces)} pieces that spell the characters of "
            f"this text come first: raise it to {len(pieces) + 1000} or more"
        )
    counter = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    counter.pre_tokenizer = byte_level_units()
    by_count = trainers.WordLevelTrainer(vocab_size=vocab_size, min_frequency=min_count, show_progress=False)
    counter.train_from_iterator(_reported(text, "count units (word)"), by_count)
    words = sorted(counter.get_vocab().items(), key=lambda item: item[1])
    tokens = list(dict.fromkeys([*pieces, *(word for word, _ in words)]))[:vocab_size]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return assemble(word_pieces(vocabulary))


def fit_bpe(text: str, vocab_size: int) -> Tokenizer:
    """Byte pairs inside units (see `units`): the 256 bytes, then merges, most frequent first, up to `vocab_size`.

    Fewer where the text has no pair left to merge. Source: Sennrich et al. 2016 (arXiv:1508.07909); GPT-2 for bytes.
    """
    if vocab_size < 256:
        raise UserError(f"tokenizers.bpe.vocab_size is {vocab_size}, but the 256 bytes come first: raise it above 256")
    fitted = tokenizers.Tokenizer(models.BPE())
    fitted.pre_tokenizer = byte_level_units()
    merging = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=sorted(byte_letters()), show_progress=False)
    fitted.train_from_iterator(_reported(text, "count units (bpe)"), merging)
    return assemble(fitted.model)


def _reported(text: str, title: str) -> Iterator[str]:
    """Yield the blocks of `text` for a trainer and show how far it has read."""
    done = 0
    with progress(title, len(text), "characters") as update:
        for block in blocks(text):
            yield block
            done += len(block)
            update(done)


def _pieces(text: str) -> list[str]:
    """Everything that spelling may need: bytes and seen characters, at the start of a unit (or a space) or not."""
    first, rest = byte_pieces()
    seen = sorted(set(text))
    first += [_spelling(character) for character in seen]
    after_space = {character for block in blocks(text) for character in AFTER_SPACE.findall(block)}
    first += [_spelling(" " + character) for character in sorted(after_space)]
    rest += [_spelling(character) for character in seen if not character.isspace()]
    return list(dict.fromkeys([*first, *(CONTINUES + piece for piece in rest)]))


def _spelling(text: str) -> str:
    return "".join(byte_letters()[byte] for byte in text.encode())
