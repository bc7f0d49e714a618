"""Interpolated modified Kneser-Ney of any order: the best that counting alone does, and a strong baseline.

Every distinct n-gram gets a number of its own, its rank among those of its length; the n-gram one token longer is
found under the key number * vocab_size + token. So keys stay small at any order (below training tokens * vocabulary),
and memory grows with the number of distinct n-grams. The start of a text is no token of its own.

Source: Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gptmodel.arrays import Floats, Ids, Ints


def kneser_ney_nats(train_ids: Ids, ids: Ids, vocab_size: int, order: int) -> float:
    """Return the total nats of `ids` under the counts of `train_ids`, predicted from up to `order - 1` tokens before.

    Every token is scored: the first ones are predicted from the tokens that exist, the first of all from none.
    """
    return float((-np.log(KneserNey.fit(train_ids, vocab_size, order).probabilities(ids))).sum())


@dataclass(frozen=True)
class Level:
    """The n-grams of one length, and what they say beside the n-grams one token shorter.

    p(token | context) = kept[n-gram] + freed[context] * p(token | context less its oldest token)

    Number -1 is an n-gram that training does not hold; it finds the last entry of either array.
    """

    keys: Ints  # (N,) number of the context * vocab_size + token, sorted: an n-gram's number is its position here
    kept: Floats  # (N + 1,) (count - discount) / count of the context; at last 0
    freed: Floats  # (contexts + 1,) sum of the context's discounts / its count; at last 1

    @classmethod
    def fit(cls, keys: Ints, counts: Ints, vocab_size: int, contexts: int) -> "Level":
        """Discount the counts; an n-gram may have count 0, it then counts as never seen.

        >>> level = Level.fit(np.array([0, 1]), np.array([1, 2]), vocab_size=3, contexts=1)
        >>> level.kept.round(3), level.freed.round(3)  # (1 - 1/3) / 3 and (2 - 3/2) / 3; they free the rest
        (array([0.222, 0.167, 0.   ]), array([0.611, 1.   ]))
        """
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        context = keys // vocab_size
        totals = np.bincount(context, counts, minlength=contexts)
        freed = np.bincount(context, discounts, minlength=contexts)
        seen = totals > 0
        totals[~seen] = freed[~seen] = 1.0
        return cls(keys, np.append((counts - discounts) / totals[context], 0.0), np.append(freed / totals, 1.0))

    def numbers(self, keys: Ints) -> Ints:
        """Return the number of each key's n-gram, -1 where there is none."""
        nearest = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[nearest] == keys, nearest, -1)


@dataclass(frozen=True)
class KneserNey:
    """A level for each length from 1 on; below them, the uniform distribution: no token has probability 0."""

    vocab_size: int
    levels: list[Level]

    @classmethod
    def fit(cls, train_ids: Ids, vocab_size: int, order: int) -> "KneserNey":
        """Count the n-grams of up to `order` tokens (at least 1), or as many as there are."""
        return cls(vocab_size, list(_levels(train_ids, vocab_size, min(order, len(train_ids)))))

    def probabilities(self, ids: Ids) -> Floats:
        """Return the probability of each token given those before it, shape (len(ids),).

        >>> KneserNey.fit(np.array([], dtype=np.int64), vocab_size=4, order=3).probabilities(np.array([0, 2]))
        array([0.25, 0.25])
        """
        probabilities = np.full(len(ids), 1 / self.vocab_size)
        numbers = np.zeros(len(ids) + 1, dtype=np.int64)  # of the context before each token; of length 0 there is one
        for length, level in enumerate(self.levels):
            contexts = numbers[:-1]
            numbers = level.numbers(contexts * self.vocab_size + ids[length:])  # context -1: negative, never found
            probabilities[length:] = level.kept[numbers] + level.freed[contexts] * probabilities[length:]
        return probabilities


def _levels(train_ids: Ids, vocab_size: int, order: int) -> Iterator[Level]:
    """Yield the levels; each but the longest counts how many different tokens stand before its n-grams."""
    keys = counts = np.zeros(1, dtype=np.int64)
    numbers = np.zeros(len(train_ids) + 1, dtype=np.int64)  # of the n-gram that begins at each position
    contexts = 0
    for length in range(order):
        longer, first, longer_numbers, occurrences = np.unique(
            numbers[:-1] * vocab_size + train_ids[length:], return_index=True, return_inverse=True, return_counts=True
        )
        if length:
            before = np.bincount(numbers[first + 1], minlength=len(keys))  # an n-gram less its oldest token
            yield Level.fit(keys, before, vocab_size, contexts)
        contexts = len(keys)
        keys = longer
        numbers = longer_numbers
        counts = occurrences
    if order:
        yield Level.fit(keys, counts, vocab_size, contexts)


def _discounts(counts: Ints) -> Floats:
    """Return what is taken from counts of 0, 1, 2, and 3 or more (Chen & Goodman 1999, equation 26).

    They leave n-grams seen once, twice, three times (n1, n2, n3 of them) their expected counts. Each n is raised by
    one and no discount is below the first, so that 0 < discount <= count on any text.

    >>> _discounts(np.repeat([1, 2, 3, 4], [39, 19, 9, 4])).round(3)
    array([0.  , 0.5 , 1.25, 2.  ])
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=5)[1:5] + 1
    once = n1 / (n1 + 2 * n2)
    return np.array([0, once, max(once, 2 - 3 * once * n3 / n2), max(once, 3 - 4 * once * n4 / n3)])
