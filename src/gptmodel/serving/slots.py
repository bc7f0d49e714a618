"""Places for texts that are decoded together but come and go on their own: what continuous batching needs of a decoder.

`FastSlots` keeps one large cache. A newcomer is read by itself, straight into its own part of it; a step then feeds one
token to every text, each at its own length; when one leaves, the last takes its place. Nothing else is read again.
`AnySlots` serves every other decoder: it reads all texts again whenever one comes, goes or moves its window, which is
right but slow for long contexts (a bigram has none).

In fp32 a text gets bit for bit the logits that it gets alone (measured on x86; the tests compare the tokens). 8-bit
products round a single row unlike several, so no step has fewer than `LEAST` rows: then int8 texts at least do not
depend on their neighbours, though they differ from those of `gptmodel generate --variant int8`.

Left out on purpose: CUDA for `FastSlots` (its buffers are parts of one array in CPU memory), paged caches, beam search.
Source: iteration-level scheduling is Yu et al. (OSDI 2022), "Orca".

Shape suffixes: B texts, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gptmodel.arrays import Logits
from gptmodel.decoding.engine import Decoder, left_pad
from gptmodel.runtime import graphs
from gptmodel.runtime.bundle import Bundle
from gptmodel.runtime.fast_decoder import Buffer, Buffers, FastDecoder, bind_past, untouched

LEAST = 2  # rows of a step


class Slots(Protocol):
    """At most `size` texts that are fed together; text number b is in slot b."""

    context: int
    vocab_size: int
    size: int

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        """Return the logits after each window, (B, V).

        Slots in `fresh` are read anew, all others hold all of their window but its last token.
        """

    def move(self, source: int, target: int) -> None:
        """Put the last text, in slot `source`, where one has left: in slot `target`, which may be the same."""


def open_slots(bundle: Bundle, size: int) -> Slots:
    """Return `size` slots of a bundle's graph."""
    if isinstance(bundle.decoder, FastDecoder) and bundle.place == "cpu":
        return FastSlots(bundle.path / graphs.GRAPHS[bundle.graph].file, size, bundle.threads)
    return AnySlots(bundle.decoder, size)


class FastSlots(FastDecoder):
    """Slots in the buffers of a `FastDecoder` on the CPU."""

    def __init__(self, model: Path | bytes, size: int, threads: int = 1) -> None:
        super().__init__(model, "cpu", threads)
        self.size = size
        rows = max(size, LEAST)
        self._pool: dict[str, npt.NDArray[Any]] = {
            name: untouched((rows, *shape), dtype) for name, (shape, dtype) in self._past.items()
        }
        self._length_B = np.zeros(rows, dtype=np.int64)
        self._reading, self._stepping = self._allocate(1), self._part(LEAST)

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        """Return the logits after each window (see `Slots`)."""
        self._length_B[list(fresh)] = 0  # the step writes there, and what it writes is written over
        logits_BV = np.empty((len(windows), self.vocab_size), dtype=np.float32)
        if len(fresh) < len(windows):
            logits_BV = self._step([window[-1] for window in windows])
        for slot in fresh:
            ids_1T, no_pad = np.array([windows[slot]], dtype=np.int64), np.zeros(1, dtype=np.int64)
            part = replace(self._reading, past=self._views(slot, slot + 1))
            logits_BV[slot] = self._prompt(ids_1T, no_pad, part, last=True)[0, 0]
            self._length_B[slot] = len(windows[slot])
        return logits_BV

    def move(self, source: int, target: int) -> None:
        """Copy the keys and values of a text (see `Slots`)."""
        length = self._length_B[target] = self._length_B[source]
        for array in self._pool.values():
            array[target, :, :length] = array[source, :, :length]

    def _step(self, last_ids: list[int]) -> Logits:
        count = max(len(last_ids), LEAST)
        if self._stepping.size != count:
            self._stepping = self._part(count)
        ids_B1 = np.zeros((count, 1), dtype=np.int64)
        ids_B1[: len(last_ids), 0] = last_ids
        self._length_B[len(last_ids) : count] = 0
        self._place(self._stepping, ids_B1, self._length_B[:count])
        self._session.run_with_iobinding(self._stepping.step)
        self._length_B[: len(last_ids)] += 1
        logits_BV: Logits = self._stepping.logits.read()[: len(last_ids)]
        return logits_BV

    def _part(self, count: int) -> Buffers:
        """Return buffers for a step of the first `count` slots."""
        part = replace(self._allocate(count), past=self._views(0, count))
        bind_past(part.step, part.past)
        return part

    def _views(self, first: int, end: int) -> dict[str, Buffer]:
        """Return the keys and values of some slots, where they lie."""
        return {name: Buffer(self._ort, array[first:end], "cpu") for name, array in self._pool.items()}


class AnySlots:
    """Slots over any decoder, which reads all texts again when their set or a window changes."""

    def __init__(self, decoder: Decoder, size: int) -> None:
        self._decoder, self.size = decoder, size
        self.context, self.vocab_size = decoder.context, decoder.vocab_size
        self._cache: Any = None

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        """Return the logits after each window (see `Slots`)."""
        if fresh or self._cache is None:
            ids_BT, pad_B = left_pad(windows)
            self._cache = self._decoder.empty_cache(pad_B)
        else:
            ids_BT = np.array([[window[-1]] for window in windows], dtype=np.int64)
        logits_B1V, self._cache = self._decoder(ids_BT, self._cache, last=True)
        return logits_B1V[:, -1]

    def move(self, source: int, target: int) -> None:
        """Forget the cache: the next `feed` reads everything (see `Slots`)."""
        self._cache = None
