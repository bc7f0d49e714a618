"""Models that count tokens and pairs of tokens: the baselines that a trained network must beat.

They score every token of a text, never give probability 0, and their probabilities sum to one over the vocabulary.
Memory grows with the number of distinct pairs, not with the square of the vocabulary. Longer contexts and discounts by
count are in `kneser_ney`.

Sources: Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 2.7
(Kneser-Ney); Ney, Essen & Kneser 1994 (the discount).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptmodel.arrays import Floats, Ids


def unigram_nats(train_ids: Ids, ids: Ids, vocab_size: int) -> float:
    """Return the total nats of `ids` under the token frequencies of `train_ids`, each count raised by one.

    >>> round(unigram_nats(np.array([0, 0, 1]), np.array([0]), vocab_size=3), 4)  # -log((2 + 1) / (3 + 3))
    0.6931
    """
    return Counts.fit(train_ids, vocab_size).unigram_nats(ids)


def bigram_nats(train_ids: Ids, ids: Ids, vocab_size: int) -> float:
    """Return the total nats of `ids` under interpolated Kneser-Ney over pairs (see `Counts.bigram_nats`)."""
    return Counts.fit(train_ids, vocab_size).bigram_nats(ids)


def unigram_probabilities(train_ids: Ids, vocab_size: int) -> Floats:
    """Return the add-one frequencies of `train_ids`, shape (vocab_size,)."""
    counts = np.bincount(train_ids, minlength=vocab_size) + 1
    return np.asarray(counts / counts.sum(), dtype=np.float64)


@dataclass(frozen=True)
class Bigram:
    """Interpolated Kneser-Ney over pairs.

    p(w | v) = (max(count(v w) - d, 0) + d * kinds(v) * base(w)) / count(v)

    where kinds(v) is the number of distinct tokens after v, base(w) is the share of the distinct pairs that end in w
    (each raised by one, so that no token has probability 0), and after a v without successors p(w | v) = base(w).
    """

    vocab_size: int
    keys: NDArray[np.int64]  # the distinct pairs v * vocab_size + w, sorted
    counts: NDArray[np.int64]  # how often each occurs
    discount: float
    totals: NDArray[np.int64]  # (vocab_size,) pairs that begin with v
    kinds: NDArray[np.int64]  # (vocab_size,) distinct pairs that begin with v
    base: Floats  # (vocab_size,)

    @classmethod
    def fit(cls, train_ids: Ids, vocab_size: int) -> "Bigram":
        """Count the pairs of `train_ids`.

        d = n1 / (n1 + 2 n2), the share that leaves the pairs seen once and twice (n1, n2 of them) their expected counts
        (Ney et al. 1994); both are raised by one, so that 0 < d < 1 on any text.
        """
        keys, counts = np.unique(_pair_keys(train_ids[:-1], train_ids[1:], vocab_size), return_counts=True)
        once, twice = (int((counts == times).sum()) + 1 for times in (1, 2))
        previous, following = np.divmod(keys, vocab_size)
        endings = np.bincount(following, minlength=vocab_size) + 1.0
        return cls(
            vocab_size=vocab_size,
            keys=keys,
            counts=counts,
            discount=once / (once + 2 * twice),
            totals=np.bincount(train_ids[:-1], minlength=vocab_size),
            kinds=np.bincount(previous, minlength=vocab_size),
            base=endings / endings.sum(),
        )

    def probabilities(self, previous: Ids, following: Ids) -> Floats:
        """Return p(following | previous), elementwise; the two have one shape (N,)."""
        base = self.base[following]
        if len(self.keys) == 0:
            return base
        keys = _pair_keys(previous, following, self.vocab_size)
        nearest = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        counts = np.where(self.keys[nearest] == keys, self.counts[nearest], 0)
        totals = self.totals[previous]
        freed = self.discount * self.kinds[previous]
        seen = (np.maximum(counts - self.discount, 0.0) + freed * base) / np.maximum(totals, 1)
        return np.where(totals > 0, seen, base)


@dataclass(frozen=True)
class Counts:
    """What one training text says about any text of the same vocabulary."""

    unigram: Floats  # (vocab_size,) probabilities
    bigram: Bigram

    @classmethod
    def fit(cls, train_ids: Ids, vocab_size: int) -> "Counts":
        """Count the tokens and the pairs of `train_ids`."""
        return cls(unigram_probabilities(train_ids, vocab_size), Bigram.fit(train_ids, vocab_size))

    def unigram_nats(self, ids: Ids) -> float:
        """Return the total nats of `ids` by the frequency of each token."""
        return float(-np.log(self.unigram)[ids].sum())

    def bigram_nats(self, ids: Ids) -> float:
        """Return the total nats of `ids` by the token before each; the first token is scored by the unigram.

        Kneser-Ney rather than add-one: at word level nearly all of the V x V pairs are unseen, and add-one would give
        them most of the probability.
        """
        if len(ids) == 0:
            return 0.0
        return self.unigram_nats(ids[:1]) - float(np.log(self.bigram.probabilities(ids[:-1], ids[1:])).sum())


def _pair_keys(previous: Ids, following: Ids, vocab_size: int) -> NDArray[np.int64]:
    return previous.astype(np.int64) * vocab_size + following
