"""One corpus as token ids: what the encode stage wrote, read back for training and evaluation."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gptmodel.batches import Ids
from gptmodel.errors import UserError
from gptmodel.files import sha256
from gptmodel.tokenizer import Tokenizer


@dataclass(frozen=True)
class Dataset:
    """The splits of a corpus at one level; a split without text has no tokens."""

    folder: Path
    tokenizer: Tokenizer
    ids: dict[str, Ids]  # split -> memory-mapped ids (uint16 or uint32, 1-D)
    characters: dict[str, int]  # split -> characters of its text

    @classmethod
    def read(cls, folder: Path) -> "Dataset":
        """Read data/tokens/LEVEL; `UserError` names the file that is missing or damaged."""
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        path = folder / "stats.json"
        try:
            splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
            for name in splits:
                path = folder / f"{name}.npy"
                splits[name]["ids"] = np.load(path, mmap_mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} cannot be read ({error}): run `dvc repro` from encode on") from None
        ids = {name: split["ids"] for name, split in splits.items()}
        return cls(folder, tokenizer, ids, {name: split["characters"] for name, split in splits.items()})

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every file that training depends on, by name."""
        names = ["tokenizer.json", *(f"{split}.npy" for split in self.ids)]
        return {name: sha256(self.folder / name) for name in names}

    def characters_per_token(self, split: str) -> float:
        """Return the mean length of a token of the split."""
        return self.characters[split] / len(self.ids[split])
