"""Text to ids and back at three levels: characters, French words, byte pairs.

Each is a Hugging Face `tokenizers` object in one `tokenizer.json`, which `tokenizers.Tokenizer.from_file` loads and
applies identically. Nothing is lost at word and bpe level: decode(encode(text)) == text for any text. Left out on
purpose: special tokens, normalisation (cleaning is a stage of its own), truncation and padding.

Words and byte pairs are built on the units of `gptmodel.data.pretokenizer`; their byte-level spelling is GPT-2's
(Radford et al. 2019), which gives every byte a printable letter.
"""

import codecs
import json
import math
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, pre_tokenizers

from gptmodel.arrays import Floats, Ids, Ints
from gptmodel.data.pretokenizer import unit_splitter
from gptmodel.errors import UserError
from gptmodel.files import write_text
from gptmodel.params import Level

UNKNOWN = "<unk>"  # char level only, id 0
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what the unknown token stands for
CONTINUES = "⁀"  # before a piece that continues a spelled word; outside the byte-level alphabet, so no text makes it
LEVELS: dict[str, Level] = {"WordLevel": "char", "WordPiece": "word", "BPE": "bpe"}  # by the model inside the json
UNICODE_CHARACTERS = 0x110000 - 0x800  # all code points but the surrogates


class Tokenizer:
    """One fitted tokenizer; ids are 0 .. vocab_size - 1."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        self.level: Level = LEVELS[type(inner.model).__name__]
        self.vocab_size: int = inner.get_vocab_size()
        self.unknown_id: int | None = inner.token_to_id(UNKNOWN) if self.level == "char" else None

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a tokenizer.json that this module saved; `UserError` if it is missing, damaged or of another kind."""
        try:
            text = path.read_text(encoding="utf-8")
            model, rest = _frame(text)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: run the encode stage, or copy the whole bundle") from None
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
            raise UserError(f"{path} is damaged ({error}): write it again or copy it again") from None
        if not _is_ours(model, rest):
            raise UserError(f"{path} is not a tokenizer of this project: take the tokenizer.json of the encode stage")
        try:
            loaded = cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises this very class for whatever it cannot read
            raise UserError(f"{path} is damaged ({error}): write it again or copy it again") from error
        if problem := loaded._problem():
            raise UserError(f"{path} is damaged ({problem}): write it again or copy it again")
        return loaded

    def _problem(self) -> str:
        """Return why the vocabulary cannot spell every text, "" if it can: the library aborts where it cannot."""
        if list(self._vocabulary.values()) != list(range(self.vocab_size)):
            return f"the ids of its {self.vocab_size:,} tokens do not run from 0 on"
        if self.level == "char":
            characters = all(len(token) == 1 or token == UNKNOWN for token in self._vocabulary)
            return "" if characters and UNKNOWN in self._vocabulary else f"its tokens are not {UNKNOWN} and characters"
        letters = set(byte_letters())
        if not all(letters.issuperset(token.removeprefix(CONTINUES)) for token in self._vocabulary):
            return "a token spells no bytes"
        if self.level == "word":
            first, rest = byte_pieces()
            letters = {*first, *(CONTINUES + letter for letter in rest)}
        return "" if self._vocabulary.keys() >= letters else "some bytes have no token"

    def content(self) -> str:
        """Return the text of tokenizer.json; equal tokenizers give equal text."""
        return self._inner.to_str(pretty=True) + "\n"

    def save(self, path: Path) -> None:
        """Write tokenizer.json."""
        write_text(path, self.content())

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the ids of `text`, shape (tokens,)."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[NDArray[np.int64]]:
        """Return the ids of each text; the texts are encoded in parallel."""
        try:
            encodings = self._inner.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:  # a lone surrogate: a file name or an argument that was not UTF-8
            raise UserError("the text is not valid Unicode: pass it as UTF-8") from None
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """Return the text of `ids`; bytes that are not UTF-8, and the unknown token, become U+FFFD."""
        spelled = map(self.token_bytes.__getitem__, np.asarray(ids).tolist())
        return b"".join(spelled).decode("utf-8", errors="replace")

    def stream(self) -> "Stream":
        """Return a decoder for ids that come one by one."""
        return Stream(self.token_bytes)

    def unknown_characters(self, text: str) -> list[str]:
        """Return the distinct characters of `text` that `encode` turns into the unknown token, in order."""
        if self.unknown_id is None:
            return []
        return [character for character in dict.fromkeys(text) if character not in self._vocabulary]

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes that each id stands for."""
        if self.level == "char":
            return [(REPLACEMENT if token == UNKNOWN else token).encode() for token in self._vocabulary]
        byte = {letter: value for value, letter in enumerate(byte_letters())}
        return [bytes(byte[letter] for letter in token.removeprefix(CONTINUES)) for token in self._vocabulary]

    @cached_property
    def continues(self) -> NDArray[np.bool_]:
        """Whether each id continues the word that the id before it began, shape (vocab_size,); word level only."""
        return np.array([token.startswith(CONTINUES) and self.level == "word" for token in self._vocabulary])

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        """Token spellings to ids, in the order of the ids."""
        return dict(sorted(self._inner.get_vocab().items(), key=lambda item: item[1]))


class Stream:
    """Text from ids that come one by one; a character is held back until its last byte has come.

    The pieces joined are what `Tokenizer.decode` gives for all the ids at once.
    """

    def __init__(self, token_bytes: list[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Return the text that is certain once this id has come; may be empty."""
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """Return what is left at the end: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", final=True)


@cache
def byte_letters() -> list[str]:
    """GPT-2's printable letter for each byte: itself where printable, else the next one from U+0100 on."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    others = iter(sorted(letter for letter in alphabet if ord(letter) > 0xFF))
    return [chr(byte) if chr(byte) in alphabet else next(others) for byte in range(256)]


def byte_pieces() -> tuple[list[str], list[str]]:
    """Return the letters that a unit of text may begin with, and those that go on.

    A unit begins with a whole character, so the bytes 0x80-0xBF only continue; 0xC0, 0xC1 and 0xF5-0xFF are no UTF-8.
    """
    letters = byte_letters()
    first = [letters[byte] for byte in (*range(0x80), *range(0xC2, 0xF5))]
    return first, [*first, *letters[0x80:0xC0]]


def word_pieces(vocabulary: dict[str, int]) -> models.WordPiece:
    """Return the model of the word level."""
    return models.WordPiece(vocabulary, continuing_subword_prefix=CONTINUES, max_input_chars_per_word=1 << 30)


def byte_level_units() -> pre_tokenizers.Sequence:
    """Return the cut into units, each spelled in byte letters."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([unit_splitter(), byte_level])


def assemble(model: models.Model) -> Tokenizer:
    """Put the level's way of cutting text and of joining tokens around a model."""
    inner = tokenizers.Tokenizer(model)
    match LEVELS[type(model).__name__]:
        case "char":
            inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
            inner.decoder = decoders.Sequence([decoders.Replace(UNKNOWN, REPLACEMENT), decoders.Fuse()])
        case "word":
            inner.pre_tokenizer = byte_level_units()
            inner.decoder = decoders.Sequence([decoders.Replace(CONTINUES, ""), decoders.ByteLevel()])
        case _:
            inner.pre_tokenizer = byte_level_units()
            inner.decoder = decoders.ByteLevel()
    return Tokenizer(inner)


def _frame(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a tokenizer.json says of its model beside the vocabulary, and the rest but regular expressions."""
    parts = json.loads(text, object_hook=lambda part: "" if "Regex" in part else part)
    if not isinstance(parts, dict) or not isinstance(parts.get("model"), dict):
        return {}, {}
    return {**parts["model"], "vocab": "", "merges": ""}, {**parts, "model": "", "version": ""}


def _is_ours(model: dict[str, Any], rest: dict[str, Any]) -> bool:
    """Whether it cuts the text and joins its tokens as we do (other versions: other words), and does nothing else."""
    match model.get("type"):
        case "WordLevel" | "BPE" as kind:
            own = getattr(models, kind)()
        case "WordPiece":
            own = word_pieces({})
        case _:
            return False
    own_model, own_rest = _frame(assemble(own)._inner.to_str())
    return {**own_model, **model} == own_model and rest == own_rest


def naming_nats(ids: Ids, unknown_id: int | None) -> Floats:
    """Return what naming each unknown character costs on top of the unknown token, shape (tokens,): 0 for known ones.

    It is one of all Unicode characters, each as likely.
    """
    return np.where(ids == unknown_id, math.log(UNICODE_CHARACTERS), 0.0)


class Bytes(NamedTuple):
    """Where each byte of a text in UTF-8 belongs; both (bytes,) and rising."""

    token: Ints
    character: Ints

    @classmethod
    def of(cls, tokenizer: Tokenizer, ids: Ids, text: str) -> "Bytes":
        """Lay tokens and characters over the bytes of `text`; `UserError` if the lengths do not fit."""
        utf8 = np.frombuffer(text.encode(), dtype=np.uint8)
        character = np.cumsum(utf8 & 0xC0 != 0x80) - 1  # 10xxxxxx continues a character
        if tokenizer.level == "char":  # a token is a character, the unknown token too
            sizes = np.bincount(character)
        else:
            sizes = np.array([len(spelled) for spelled in tokenizer.token_bytes])[ids]
        if len(sizes) != len(ids) or sizes.sum() != len(utf8):
            raise UserError(
                f"the {len(ids)} tokens are not those of the text of {len(text)} characters: "
                "run `dvc repro` from encode on"
            )
        return cls(np.repeat(np.arange(len(ids)), sizes), character)


def spans(tokenizer: Tokenizer, ids: Ids, text: str) -> Ints:
    """Return the first character of each token and the one after its last, shape (tokens, 2).

    A token that holds some bytes of a character spans all of it, so that neighbours may overlap. `UserError` if `ids`
    are not those of `text`.
    """
    owner = Bytes.of(tokenizer, ids, text)
    sizes = np.bincount(owner.token)
    ends = np.cumsum(sizes)
    return np.stack((owner.character[ends - sizes], owner.character[ends - 1] + 1), axis=1)
