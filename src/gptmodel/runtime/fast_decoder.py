"""A fast graph as a `decoding.engine.Decoder`: the buffers of a batch go from one cache to the next.

Several new tokens after a prompt are fed one by one: the graph reads a prompt from its beginning, or one token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gptmodel.arrays import Ints, Logits
from gptmodel.decoding.engine import DecoderSlots, Slots
from gptmodel.runtime.fast_session import Buffers, FastSession
from gptmodel.runtime.fast_slots import FastSlots
from gptmodel.runtime.session import ChosenDevice


@dataclass(eq=False)
class Cache:
    """What a batch holds: `length_B` tokens per row, in buffers that one cache at a time owns."""

    length_B: Ints
    buffers: Buffers = field(repr=False)


class FastDecoder:
    """Decodes with a model written by `fast_graph`. `UserError` as `session.open_session`.

    One generation at a time: a new cache takes the buffers of the one before.
    """

    def __init__(self, model: Path | bytes, device: ChosenDevice = "cpu", threads: int = 1) -> None:
        self.session = FastSession(model, device, threads)
        self.context = self.session.context
        self.vocab_size = self.session.vocab_size
        self._buffers: Buffers | None = None
        self._owner: Cache | None = None

    def prefill(self, rows: Sequence[Sequence[int]]) -> tuple[Logits, Cache]:
        """Return the logits after each row, (B, V), and its cache; an earlier cache must not be used again."""
        logits_BV = self.session.read(rows, self._of_size(len(rows)).past)
        return logits_BV, self._give(np.array([len(row) for row in rows], dtype=np.int64))

    def step(self, ids_B: Ints, cache: Cache) -> tuple[Logits, Cache]:
        """Return the logits after one more token per row, (B, V), and the new cache.

        `ValueError` for a cache that was used up, or whose buffers have gone to a later one.
        """
        buffers = self._owned(cache)
        self.session.place(buffers, ids_B, cache.length_B)
        self.session.step(buffers)
        logits_BV: Logits = buffers.logits.read()
        return logits_BV, self._give(cache.length_B + 1)

    def logits(self, rows: Sequence[Sequence[int]]) -> list[Logits]:
        """Return the logits after every token of each row, (T, V) per row; takes the buffers as `prefill`."""
        logits_NV = self.session.read(rows, self._of_size(len(rows)).past, everywhere=True)
        return np.split(logits_NV, np.cumsum([len(row) for row in rows])[:-1])

    def slots(self, size: int) -> Slots:
        """Return room for `size` texts in this session: on the CPU each is read by itself."""
        return FastSlots(self.session, size) if self.session.device == "cpu" else DecoderSlots(self, size)

    def _owned(self, cache: Cache) -> Buffers:
        if cache is not self._owner:
            raise ValueError("this cache was given up: a later one has its buffers")
        return cache.buffers

    def _give(self, length_B: Ints) -> Cache:
        """Return the cache that owns the buffers from now on."""
        assert self._buffers is not None
        self._owner = Cache(length_B, self._buffers)
        return self._owner

    def _of_size(self, size: int) -> Buffers:
        """Return the buffers for as many rows: those of the last batch, or new ones. No cache owns them now."""
        self._owner = None
        if self._buffers is None or self._buffers.size != size:
            self._buffers = None  # before the new ones take memory
            self._buffers = self.session.allocate(size)
        return self._buffers
