"""The baselines that any model is compared with: counts of characters, from uniform to Kneser-Ney of growing order.

Every baseline is counted over the characters of the training split and scores every character of the other splits, as
`gptmodel.model.loss` scores a network: a character that the tokenizer does not know costs the unknown token plus a
uniform choice among all Unicode characters. The best baseline is chosen on validation, never on test. All are static:
they do not learn from the text that they score. No torch, and no counts of words: a word level's vocabulary is another.

Sources: `gptmodel.evaluation.ngram` and `gptmodel.evaluation.kneser_ney` (Chen & Goodman 1999).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd

from gptmodel import memory
from gptmodel.arrays import Floats, Ids
from gptmodel.data.dataset import Dataset
from gptmodel.data.tokenizer import naming_nats
from gptmodel.evaluation import surprisal
from gptmodel.evaluation.kneser_ney import KneserNey
from gptmodel.evaluation.ngram import Bigram, unigram_probabilities
from gptmodel.evaluation.surprisal import CharacterCosts
from gptmodel.files import write_text
from gptmodel.results.corpus import SplitName
from gptmodel.results.evaluation import SCORED, Baselines, BaselineScore, Scored


@dataclass(frozen=True)
class Baseline:
    """One way of counting."""

    name: str
    order: int  # length of its longest n-grams; 0: it counts nothing
    probabilities: Callable[[Ids], Floats]  # of each token given those before it, shape (len(ids),)

    def nats(self, ids: Ids, unknown_id: int | None) -> Floats:
        """Return what each character costs, shape (len(ids),); an unknown one also costs its name."""
        nats: Floats = -np.log(self.probabilities(ids)) + naming_nats(ids, unknown_id)
        return nats

    def score(self, nats: Floats, text: str) -> BaselineScore:
        """Relate the costs of the characters of `text` (at least one) to its length.

        >>> uniform = Baseline("uniform", 0, lambda ids: np.full(len(ids), 0.25))
        >>> score = uniform.score(uniform.nats(np.array([1, 2]), unknown_id=0), "çà")
        >>> score.bits_per_char, score.bits_per_byte, score.loss_nats
        (2.0, 1.0, 1.3862943611198906)
        """
        total = float(nats.sum())
        bits = total / math.log(2)
        return BaselineScore(
            name=self.name,
            kind="static",
            order=self.order,
            bits_per_char=bits / len(text),
            bits_per_byte=bits / len(text.encode()),
            loss_nats=total / len(text),
        )


@dataclass(frozen=True)
class Counted:
    """The scores of all baselines, and what each character costs the best of them."""

    scores: Baselines
    costs: CharacterCosts

    def table(self) -> pd.DataFrame:
        """Return a row per baseline: its name, its order, and its bits per character for each split."""
        splits = self.scores.splits
        table = pd.DataFrame([{"name": score.name, "order": score.order} for score in splits["validation"]])
        for split, scores in splits.items():
            table[f"{split}_bits_per_char"] = [score.bits_per_char for score in scores]
        return table

    def write(self, folder: Path) -> None:
        """Write baselines.json, baselines.csv (the table) and what each character costs the best baseline."""
        self.scores.write(folder / "baselines.json")
        write_text(folder / "baselines.csv", self.table().to_csv(index=False, lineterminator="\n"))
        self.costs.write(folder / surprisal.FILE)


def least_bytes(characters: int, order: int) -> int:
    """Return the memory that counting a training text takes, at least.

    Measured: 57 bytes a character while an order is counted, and 24 that stay for each order from about the eighth
    on, where nearly every n-gram of a book is another one. Only the orders beyond the 20th are added here.
    """
    return characters * (50 + 24 * max(0, order - 20))


def check_memory(characters: int, order: int) -> None:
    """Refuse an order that a training text of so many characters cannot be counted to in this machine's memory."""
    what = f"baselines.order: {order} with {characters:,} characters of training text"
    remedy = "lower the order or take a shorter text"
    memory.require(least_bytes(characters, order), memory.present(), what, remedy)


def count(data: Dataset, texts: Mapping[SplitName, str], order: int) -> Counted:
    """Count the training split up to n-grams of `order` characters; score validation and, if it has text, test.

    `data` is the char level's, `texts` are its texts by split; `order` 1 leaves uniform and unigram.
    """
    scored: list[Scored] = [split for split in SCORED if len(data.ids[split])]
    splits: dict[Scored, list[BaselineScore]] = {split: [] for split in scored}
    lowest_nats = math.inf
    best = ""
    best_nats: dict[Scored, Floats] = {}
    for baseline in baselines(data.ids["train"], data.tokenizer.vocab_size, order):
        nats = {split: baseline.nats(data.ids[split], data.tokenizer.unknown_id) for split in scored}
        for split in scored:
            splits[split].append(baseline.score(nats[split], texts[split]))
        validation_nats = splits["validation"][-1].loss_nats
        if validation_nats < lowest_nats:
            lowest_nats = validation_nats
            best = baseline.name
            best_nats = nats
    return Counted(Baselines(best=best, splits=splits), CharacterCosts.of(best_nats, texts))


def baselines(train_ids: Ids, vocab_size: int, order: int) -> Iterator[Baseline]:
    """Yield the baselines up to `order`, each fitted when it is asked for.

    >>> [baseline.name for baseline in baselines(np.array([0, 1, 0]), vocab_size=2, order=4)]
    ['uniform', 'unigram', 'bigram', 'kneser-ney-3', 'kneser-ney-4']
    """
    shortest = islice(simple(train_ids, vocab_size), order + 1)
    return chain(shortest, kneser_ney(train_ids, vocab_size, range(3, order + 1)))


def simple(train_ids: Ids, vocab_size: int) -> Iterator[Baseline]:
    """Yield the baselines that look at one token before or none; the bigram scores the first token by the unigram."""
    yield Baseline("uniform", 0, lambda ids: np.full(len(ids), 1 / vocab_size))
    single = unigram_probabilities(train_ids, vocab_size)
    yield Baseline("unigram", 1, lambda ids: single[ids])
    pairs = Bigram.fit(train_ids, vocab_size)
    yield Baseline("bigram", 2, lambda ids: np.append(single[ids[:1]], pairs.probabilities(ids[:-1], ids[1:])))


def kneser_ney(train_ids: Ids, vocab_size: int, orders: Iterable[int]) -> Iterator[Baseline]:
    """Yield interpolated modified Kneser-Ney at each order."""
    for order in orders:
        yield Baseline(f"kneser-ney-{order}", order, KneserNey.fit(train_ids, vocab_size, order).probabilities)
