"""What every character of a text costs a model, so that models whose tokens differ can be laid side by side.

A token's nats are spread equally over its bytes, which is a convention, and a character costs what its bytes cost. The
costs of the characters add up to the cost of the text. No torch: a report needs none.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gptmodel.arrays import Floats, Ids
from gptmodel.data.tokenizer import Bytes, Tokenizer
from gptmodel.errors import UserError
from gptmodel.files import write_bytes
from gptmodel.results.corpus import Sha256, SplitName
from gptmodel.results.evaluation import Scored
from gptmodel.results.record import Record

FILE = "surprisal.safetensors"
_HASHES = "sha256"  # the one key of the file's metadata: safetensors writes several in any order


class _Hashes(Record):
    """What the file says beside its arrays, so that damage is found wherever it is."""

    texts: dict[Scored, Sha256]  # of each split's text in UTF-8
    costs: Sha256  # of `texts` and of all costs


def characters_per_token(tokenizer: Tokenizer, ids: Ids, text: str) -> Floats:
    """Return how many characters each token stands for, shape (tokens,): a part of one where it holds some bytes only.

    They add up to the characters of `text`. `UserError` if `ids` are not those of `text`.
    """
    owner = Bytes.of(tokenizer, ids, text)
    share = (1 / np.bincount(owner.character))[owner.character]  # of a character, in each byte
    return np.asarray(np.bincount(owner.token, share), dtype=np.float64)


def character_nats(tokenizer: Tokenizer, ids: Ids, token_nats: Floats, text: str) -> Floats:
    """Return the nats of each character, shape (characters,), from those of each token; the sum stays the same.

    `UserError` if `ids` are not those of `text`.
    """
    owner = Bytes.of(tokenizer, ids, text)
    byte_nats = (token_nats / np.bincount(owner.token))[owner.token]
    return np.asarray(np.bincount(owner.character, byte_nats), dtype=np.float64)


@dataclass(frozen=True)
class CharacterCosts:
    """Nats per character of each split that has text, and the SHA-256 of that text in UTF-8."""

    nats: dict[Scored, NDArray[np.float32]]  # (characters,) each
    sha256: dict[Scored, str]

    @classmethod
    def of(cls, nats: Mapping[Scored, Floats], texts: Mapping[SplitName, str]) -> "CharacterCosts":
        """Bind the costs of each split (see `character_nats`) to its text."""
        hashes = {split: hashlib.sha256(texts[split].encode()).hexdigest() for split in nats}
        return cls({split: values.astype(np.float32) for split, values in nats.items()}, hashes)

    def write(self, path: Path) -> None:
        """Write a safetensors file with one array for each split; equal costs give equal bytes."""
        hashes = _Hashes(texts=self.sha256, costs=self._digest())
        content = save({str(split): nats for split, nats in self.nats.items()}, {_HASHES: hashes.model_dump_json()})
        write_bytes(path, content)

    @classmethod
    def read(cls, path: Path) -> "CharacterCosts":
        """Read what `write` wrote; `UserError` if the file is missing, damaged or another kind of file."""
        remedy = "delete it and run `dvc repro` again"
        try:
            with safe_open(path, framework="numpy") as file:
                hashes = _Hashes.model_validate_json((file.metadata() or {}).get(_HASHES, ""))
                arrays = {split: file.get_tensor(split) for split in file.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: run `dvc repro` for the model it belongs to") from None
        except ValidationError:
            raise UserError(f"{path} does not hold the costs of characters: {remedy}") from None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}): {remedy}") from None
        ours = arrays and all(array.dtype == np.float32 and array.ndim == 1 for array in arrays.values())
        if not ours or arrays.keys() != hashes.texts.keys():
            raise UserError(f"{path} does not hold the costs of characters: {remedy}")
        costs = cls({split: arrays[split] for split in hashes.texts}, hashes.texts)
        if costs._digest() != hashes.costs:
            raise UserError(f"{path} is damaged (its SHA-256 differs): {remedy}")
        return costs

    def _digest(self) -> str:
        """Return the SHA-256 of all costs and of the hashes of their texts."""
        digest = hashlib.sha256()
        for split, array in self.nats.items():
            digest.update(f"{split} {self.sha256[split]} ".encode())
            digest.update(array.astype("<f4").tobytes())
        return digest.hexdigest()
