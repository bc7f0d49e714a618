"""The ladder of counts that any model stands on: uniform, unigram, bigram, then Kneser-Ney of growing order.

Every rung is counted over the characters of the training split and charged for every character of the other splits,
as `gptmodel.model.loss` charges a network: one that the tokenizer does not know costs the unknown token plus a
uniform choice among all Unicode characters. The best rung is chosen on validation, never on test. Left out on
purpose: torch, and counts over words, whose vocabulary no character count could be compared with.

Sources: `gptmodel.evaluation.ngram` and `gptmodel.evaluation.kneser_ney` (Chen & Goodman 1999).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd

from gptmodel.arrays import Floats, Ids
from gptmodel.data.encoding import encode_split
from gptmodel.data.tokenizer import Tokenizer, naming_nats
from gptmodel.evaluation.kneser_ney import KneserNey
from gptmodel.evaluation.ngram import Bigram, unigram_probabilities
from gptmodel.evaluation.surprisal import CharacterCosts
from gptmodel.files import write_json, write_text


@dataclass(frozen=True)
class Rung:
    """One way of counting."""

    name: str
    order: int  # length of its longest n-grams; 0: it counts nothing
    probabilities: Callable[[Ids], Floats]  # of each token given those before it, shape (len(ids),)

    def nats(self, ids: Ids, unknown_id: int | None) -> Floats:
        """Return what each character costs, shape (len(ids),); an unknown one also pays for its name."""
        nats: Floats = -np.log(self.probabilities(ids)) + naming_nats(ids, unknown_id)
        return nats


@dataclass(frozen=True)
class Cost:
    """What a rung pays for a text; `loss_nats` is nats per character."""

    name: str
    order: int
    bits_per_char: float
    bits_per_byte: float
    loss_nats: float

    @classmethod
    def of(cls, rung: Rung, nats: Floats, text: str) -> "Cost":
        """Relate the costs of the characters of `text` (at least one) to its length.

        >>> rung = Rung("uniform", 0, lambda ids: np.full(len(ids), 0.25))
        >>> Cost.of(rung, rung.nats(np.array([1, 2]), unknown_id=0), "çà")
        Cost(name='uniform', order=0, bits_per_char=2.0, bits_per_byte=1.0, loss_nats=1.3862943611198906)
        """
        total = float(nats.sum())
        bits = total / math.log(2)
        return cls(rung.name, rung.order, bits / len(text), bits / len(text.encode()), total / len(text))


@dataclass(frozen=True)
class Ladder:
    """What every rung pays for each split that is not trained on and has text."""

    best: str  # the name of the rung that pays least for validation
    splits: dict[str, list[Cost]]
    costs: CharacterCosts  # of the best rung

    def table(self) -> pd.DataFrame:
        """Return a row per rung: its name, its order, and its bits per character for each split."""
        names = {"name": [cost.name for cost in self.splits["validation"]]}
        orders = {"order": [cost.order for cost in self.splits["validation"]]}
        bits = {
            f"{split}_bits_per_char": [cost.bits_per_char for cost in costs] for split, costs in self.splits.items()
        }
        return pd.DataFrame({**names, **orders, **bits})

    def write(self, folder: Path) -> None:
        """Write ladder.json, ladder.csv (the table) and surprisal.npz (the best rung's cost of every character)."""
        splits = {split: [asdict(cost) for cost in costs] for split, costs in self.splits.items()}
        write_json(folder / "ladder.json", {"best": self.best, "splits": splits})
        write_text(folder / "ladder.csv", self.table().to_csv(index=False, lineterminator="\n"))
        self.costs.write(folder / "surprisal.npz")


def climb(tokenizer: Tokenizer, texts: Mapping[str, str], order: int) -> Ladder:
    """Count `texts["train"]` up to n-grams of `order` characters and charge validation and, if it has text, test.

    `tokenizer` is the char level's; `order` is at least 1, which leaves uniform and unigram.
    """
    charged = {split: text for split, text in texts.items() if split != "train" and text}
    train_ids = encode_split(tokenizer, texts["train"], "train")
    ids = {split: encode_split(tokenizer, text, split) for split, text in charged.items()}
    splits: dict[str, list[Cost]] = {split: [] for split in charged}
    lowest, best, best_nats = math.inf, "", dict[str, Floats]()
    for rung in rungs(train_ids, tokenizer.vocab_size, order):
        nats = {split: rung.nats(ids[split], tokenizer.unknown_id) for split in charged}
        for split, text in charged.items():
            splits[split].append(Cost.of(rung, nats[split], text))
        if splits["validation"][-1].loss_nats < lowest:
            lowest, best, best_nats = splits["validation"][-1].loss_nats, rung.name, nats
    return Ladder(best, splits, CharacterCosts.of(best_nats, charged))


def rungs(train_ids: Ids, vocab_size: int, order: int) -> Iterator[Rung]:
    """Yield the rungs up to `order`, each fitted when it is asked for.

    >>> [rung.name for rung in rungs(np.array([0, 1, 0]), vocab_size=2, order=4)]
    ['uniform', 'unigram', 'bigram', 'kneser-ney-3', 'kneser-ney-4']
    """
    lowest = islice(simple(train_ids, vocab_size), order + 1)
    return chain(lowest, kneser_ney(train_ids, vocab_size, range(3, order + 1)))


def simple(train_ids: Ids, vocab_size: int) -> Iterator[Rung]:
    """Yield the rungs that look at one token before or none; the bigram charges the first token by the unigram."""
    yield Rung("uniform", 0, lambda ids: np.full(len(ids), 1 / vocab_size))
    single = unigram_probabilities(train_ids, vocab_size)
    yield Rung("unigram", 1, lambda ids: single[ids])
    pairs = Bigram.fit(train_ids, vocab_size)
    yield Rung("bigram", 2, lambda ids: np.append(single[ids[:1]], pairs.probabilities(ids[:-1], ids[1:])))


def kneser_ney(train_ids: Ids, vocab_size: int, orders: Iterable[int]) -> Iterator[Rung]:
    """Yield interpolated modified Kneser-Ney at each order."""
    for order in orders:
        yield Rung(f"kneser-ney-{order}", order, KneserNey.fit(train_ids, vocab_size, order).probabilities)
