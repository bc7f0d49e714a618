"""One corpus as token ids: what the encode stage wrote, read back for training and evaluation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gptmodel.arrays import Ids
from gptmodel.data.corpus import SPLITS, read_facts
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.errors import UserError
from gptmodel.files import sha256
from gptmodel.results.corpus import SplitName, TextFacts


@dataclass(frozen=True)
class Dataset:
    """The splits of a corpus at one level; a split without text has no tokens."""

    folder: Path
    tokenizer: Tokenizer
    ids: dict[SplitName, Ids]  # memory-mapped (uint16 or uint32), (tokens,)
    text: TextFacts

    @classmethod
    def read(cls, folder: Path) -> "Dataset":
        """Read data/tokens/LEVEL; `UserError` names the file that is missing or damaged."""
        tokenizer, facts = Tokenizer.load(folder / "tokenizer.json"), read_facts(folder)
        ids: dict[SplitName, Ids] = {}
        for split in SPLITS:
            path = folder / f"{split}.npy"
            try:
                ids[split] = np.load(path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise UserError(f"{path} cannot be read ({error}): run `dvc repro` from encode on") from None
        return cls(folder, tokenizer, ids, facts)

    @property
    def characters(self) -> dict[SplitName, int]:
        """The length of each split's text."""
        return {name: split.characters for name, split in self.text.splits.items()}

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every file that training depends on, by name."""
        names = ["tokenizer.json", *(f"{split}.npy" for split in self.ids)]
        return {name: sha256(self.folder / name) for name in names}

    def characters_per_token(self, split: SplitName) -> float:
        """Return the mean length of a token of the split."""
        return self.characters[split] / len(self.ids[split])
