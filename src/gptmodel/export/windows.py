"""Stretches of a text that show a network all of it, without reading all of it."""

import numpy as np

from gptmodel.arrays import Ids, Ints

POSITIONS = 20_000  # at least, where the text is that long


def spread(ids: Ids, length: int) -> Ints:
    """Return windows of `length` tokens, spread evenly over a text and in order: (N, T). In a short text they overlap.

    >>> spread(np.arange(5), 3).tolist()
    [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    """
    count = -(-POSITIONS // length)
    starts_N = np.unique(np.linspace(0, len(ids) - length, count).astype(np.int64))
    windows_NT: Ints = ids[starts_N[:, None] + np.arange(length)].astype(np.int64)
    return windows_NT
