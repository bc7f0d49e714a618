"""What every character of a text costs a model: the common ground of models whose tokens differ.

A token's nats are spread equally over its bytes, and a character costs what its bytes cost. So the costs of two models
can be laid side by side, character by character, and add up to what each model pays. Left out on purpose: how a
token's nats really divide among its characters, which no model of tokens says; torch, so that a report needs none.
"""

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptmodel.arrays import Floats, Ids, Ints
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.errors import UserError
from gptmodel.files import whole_file

_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_HASH = ".sha256"  # the name of a split's hash in the file is the split and this


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

    def of_tokens(self, values: Floats) -> Floats:
        """Return the sum of `values` (bytes,) over each token, shape (tokens,)."""
        return np.asarray(np.bincount(self.token, values), dtype=np.float64)

    def of_characters(self, values: Floats) -> Floats:
        """Return the sum of `values` (bytes,) over each character, shape (characters,)."""
        return np.asarray(np.bincount(self.character, values), dtype=np.float64)


def spans(tokenizer: Tokenizer, ids: Ids, text: str) -> Ints:
    """Return the first character of each token and the one after its last, shape (tokens, 2).

    A token that holds some bytes of a character spans all of it, so that neighbours may overlap. `UserError` if `ids`
    are not those of `text`.
    """
    place = Bytes.of(tokenizer, ids, text)
    sizes = np.bincount(place.token)
    ends = np.cumsum(sizes)
    return np.stack((place.character[ends - sizes], place.character[ends - 1] + 1), axis=1)


def characters_per_token(tokenizer: Tokenizer, ids: Ids, text: str) -> Floats:
    """Return how many characters each token stands for, shape (tokens,): a part of one where it holds some bytes only.

    They add up to the characters of `text`. `UserError` if `ids` are not those of `text`.
    """
    place = Bytes.of(tokenizer, ids, text)
    return place.of_tokens((1 / np.bincount(place.character))[place.character])


def character_nats(tokenizer: Tokenizer, ids: Ids, token_nats: Floats, text: str) -> Floats:
    """Return the nats of each character, shape (characters,), from those of each token; the sum stays the same.

    `UserError` if `ids` are not those of `text`.
    """
    place = Bytes.of(tokenizer, ids, text)
    return place.of_characters((token_nats / np.bincount(place.token))[place.token])


@dataclass(frozen=True)
class CharacterCosts:
    """Nats per character of each split that has text, and the SHA-256 of that text in UTF-8."""

    nats: dict[str, NDArray[np.float32]]  # split -> (characters,)
    sha256: dict[str, str]

    @classmethod
    def of(cls, nats: dict[str, Floats], texts: dict[str, str]) -> "CharacterCosts":
        """Bind the costs of each split (see `character_nats`) to its text."""
        hashes = {split: hashlib.sha256(texts[split].encode()).hexdigest() for split in nats}
        return cls({split: values.astype(np.float32) for split, values in nats.items()}, hashes)

    def write(self, path: Path) -> None:
        """Write an .npz that `numpy.load` reads too, without pickle; equal costs give equal bytes."""
        arrays = {split: np.asarray(values, dtype="<f4") for split, values in self.nats.items()}
        hashes = {split + _HASH: np.array(digest) for split, digest in self.sha256.items()}
        with whole_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
            for name, array in {**arrays, **hashes}.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())  # of 1980: no clock in the bytes

    @classmethod
    def read(cls, path: Path) -> "CharacterCosts":
        """Read what `write` wrote; `UserError` if the file is missing, damaged or another kind of file."""
        try:
            with zipfile.ZipFile(path) as archive:
                arrays = {
                    name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)))
                    for name in archive.namelist()
                }
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: run `dvc repro` for the model it belongs to") from None
        except _DAMAGE as error:
            raise UserError(f"{path} is damaged ({error}): delete it and run `dvc repro` again") from None
        nats = {name: array for name, array in arrays.items() if not name.endswith(_HASH)}
        sha256 = {name.removesuffix(_HASH): str(array) for name, array in arrays.items() if name.endswith(_HASH)}
        ours = all(array.dtype == np.float32 and array.ndim == 1 for array in nats.values())
        if not (
            ours and nats and nats.keys() == sha256.keys() and all(len(digest) == 64 for digest in sha256.values())
        ):
            raise UserError(f"{path} does not hold the costs of characters: delete it and run `dvc repro` again")
        return cls(nats, sha256)
