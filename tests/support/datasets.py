"""Small data sets for tests, encoded in memory."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gptmodel.data.dataset import Dataset
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.results.corpus import SplitName, SplitText, TextFacts


def in_memory(tokenizer: Tokenizer, texts: Mapping[SplitName, str]) -> Dataset:
    """Return the data set of `texts` as the stage encode would write it; it has no folder."""
    splits = {
        split: SplitText(characters=len(text), sha256=hashlib.sha256(text.encode()).hexdigest())
        for split, text in texts.items()
    }
    facts = TextFacts(name="essai", language="fr", typography="fr", splits=splits)
    ids = {split: tokenizer.encode(text).astype(np.uint16) for split, text in texts.items()}
    return Dataset(Path("nowhere"), tokenizer, dict(ids), facts)
