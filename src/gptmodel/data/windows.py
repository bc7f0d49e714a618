"""Which stretches of a text a model reads: those that score it (`plan`), and those that show it evenly (`spread`)."""

import math
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from gptmodel.arrays import Ids, Ints

POSITIONS = 20_000  # at least as many tokens does `spread` read, where the text is that long


class Window(NamedTuple):
    """A stretch of a text that is read at once: it predicts, at each of its tokens, the one that follows."""

    start: int  # its first token
    length: int  # tokens that it reads
    scored: int  # its last predictions: those that no window before it has made

    @property
    def first_scored(self) -> int:
        """The first token whose prediction counts."""
        return self.start + self.length - self.scored + 1


def plan(tokens: int, context: int, stride: int | None = None) -> list[Window]:
    """Return the windows that together score every token of a text but the first, each once and in order.

    They begin `stride` tokens apart (default: a context, so that none overlap). The last is shorter where the text
    ends before it is full.

    >>> [tuple(window) for window in plan(10, context=4)]
    [(0, 4, 4), (4, 4, 4), (8, 1, 1)]
    >>> [tuple(window) for window in plan(10, context=4, stride=2)]
    [(0, 4, 4), (2, 4, 2), (4, 4, 2), (6, 3, 1)]
    """
    windows = list[Window]()
    scored = 1
    for start in range(0, tokens - 1, stride or context):
        if scored == tokens:
            break
        length = min(context, tokens - 1 - start)
        windows.append(Window(start, length, start + length + 1 - scored))
        scored = start + length + 1
    return windows


def batches(windows: Sequence[Window], most_tokens: int) -> list[list[Window]]:
    """Return the windows in batches: neighbours of one length, with at most `most_tokens` tokens or one window.

    >>> [len(batch) for batch in batches(plan(24, context=4), most_tokens=9)]
    [2, 2, 1, 1]
    """
    batched = list[list[Window]]()
    for length, group in groupby(windows, attrgetter("length")):
        alike = list(group)
        size = max(1, most_tokens // length)
        batched += [alike[first : first + size] for first in range(0, len(alike), size)]
    return batched


def read(ids: Ids, windows: Sequence[Window]) -> Ids:
    """Return the tokens of windows of one length, each with the one after its last: (B, T + 1)."""
    starts_B = np.array([window.start for window in windows])
    return ids[starts_B[:, None] + np.arange(windows[0].length + 1)]


def first_token_nats(vocab_size: int) -> float:
    """Return the cost of a text's first token: nothing precedes it, so each is as likely."""
    return math.log(vocab_size)


def spread(ids: Ids, length: int) -> Ints:
    """Return windows of `length` tokens, spread evenly over a text and in order: (N, T). In a short text they overlap.

    >>> spread(np.arange(5), 3).tolist()
    [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    """
    count = -(-POSITIONS // length)
    starts_N = np.unique(np.linspace(0, len(ids) - length, count).astype(np.int64))
    windows_NT: Ints = ids[starts_N[:, None] + np.arange(length)].astype(np.int64)
    return windows_NT
