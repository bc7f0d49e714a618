"""Slots for texts that are decoded together but come and go on their own: what continuous batching needs.

`FastSlots` keeps one large cache. A newcomer is read by itself, straight into its own part of it; a step then feeds one
token to every text, each at its own length; when one leaves, the last takes its slot. Nothing else is read again.
`engine.DecoderSlots` serves every other decoder: it reads all texts again whenever one comes, goes or moves its window,
which is right but slow for long contexts (a bigram has none).

In fp32 a text gets bit for bit the logits that it gets alone. 8-bit products round a single row unlike several, so no
step has fewer than `LEAST` rows: then int8 texts at least do not depend on their neighbours, though they differ from
those of a text that `FastDecoder` continues alone.

Left out on purpose: CUDA for `FastSlots` (its buffers are parts of one array in CPU memory).
Source: iteration-level scheduling is Yu et al. (OSDI 2022), "Orca".

Shape suffixes: B texts, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptmodel.arrays import Logits
from gptmodel.runtime.fast_session import Buffer, FastSession, untouched

LEAST = 2  # rows of a step


class FastSlots:
    """Slots in the buffers of a `FastSession` on the CPU."""

    def __init__(self, session: FastSession, size: int) -> None:
        self._session = session
        self.size = size
        self.context = session.context
        self.vocab_size = session.vocab_size
        rows = max(size, LEAST)
        self._pool: dict[str, npt.NDArray[Any]] = {
            name: untouched((rows, *shape), dtype) for name, (shape, dtype) in session.past_shapes.items()
        }
        self._length_B = np.zeros(rows, dtype=np.int64)
        self._stepping = session.allocate(LEAST, self._views(0, LEAST))

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        """Return the logits after each window (see `engine.Slots`)."""
        self._length_B[list(fresh)] = 0  # the step feeds these slots too; what it writes is overwritten below
        logits_BV = np.empty((len(windows), self.vocab_size), dtype=np.float32)
        if len(fresh) < len(windows):
            logits_BV = self._step([window[-1] for window in windows])
        for slot in fresh:
            logits_BV[slot] = self._session.read([windows[slot]], self._views(slot, slot + 1))[0]
            self._length_B[slot] = len(windows[slot])
        return logits_BV

    def move(self, source: int, target: int) -> None:
        """Copy the keys and values of a text (see `engine.Slots`)."""
        length = self._length_B[target] = self._length_B[source]
        for array in self._pool.values():
            array[target, :, :length] = array[source, :, :length]

    def _step(self, last_ids: list[int]) -> Logits:
        count = max(len(last_ids), LEAST)
        if self._stepping.size != count:
            self._stepping = self._session.allocate(count, self._views(0, count))
        ids_B = np.zeros(count, dtype=np.int64)
        ids_B[: len(last_ids)] = last_ids
        self._length_B[len(last_ids) : count] = 0
        self._session.place(self._stepping, ids_B, self._length_B[:count])
        self._session.step(self._stepping)
        self._length_B[: len(last_ids)] += 1
        logits_BV: Logits = self._stepping.logits.read()[: len(last_ids)]
        return logits_BV

    def _views(self, first: int, end: int) -> dict[str, Buffer]:
        """Return the keys and values of some slots, where they lie."""
        return {name: Buffer(self._session.ort, array[first:end], "cpu") for name, array in self._pool.items()}
