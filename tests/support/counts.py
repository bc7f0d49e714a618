"""What a whole text costs under the counts of another."""

import numpy as np

from gptmodel.arrays import Ids
from gptmodel.evaluation.kneser_ney import KneserNey
from gptmodel.evaluation.ngram import Counts


def unigram_nats(train_ids: Ids, ids: Ids, vocab_size: int) -> float:
    """Return the total nats of `ids` by the token frequencies of `train_ids`."""
    return Counts.fit(train_ids, vocab_size).unigram_nats(ids)


def bigram_nats(train_ids: Ids, ids: Ids, vocab_size: int) -> float:
    """Return the total nats of `ids` by Kneser-Ney over the pairs of `train_ids`."""
    return Counts.fit(train_ids, vocab_size).bigram_nats(ids)


def kneser_ney_nats(train_ids: Ids, ids: Ids, vocab_size: int, order: int) -> float:
    """Return the total nats of `ids` by Kneser-Ney of an order over `train_ids`."""
    return float((-np.log(KneserNey.fit(train_ids, vocab_size, order).probabilities(ids))).sum())
