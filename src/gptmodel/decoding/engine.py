"""The stepwise engine: sequences grow together, token by token, over any `Decoder`. Numpy only.

One `Batch` serves everybody; sequences come and go in its slots. Two laws hold. The tokens of a sequence depend on its
own prompt, seed and sample number only, never on the sequences beside it. And decoding with a cache gives what reading
the whole window at every step gives.

Past the context: a sequence of n tokens is seen through a window that starts at a place which is a pure function of n
(`window_start`). While no start moves, a step feeds one token per sequence; where one moves, its window is read again.

Shape suffixes: B sequences, T places, N steps, V vocabulary.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from gptmodel.arrays import Floats, Ints, Logits, Mask
from gptmodel.decoding.sampling import Sampling, choose


class Decoder(Protocol):
    """What turns token ids into logits.

    A cache is opaque: only the decoder that made it reads it. It belongs to one generation, and a step uses it up.
    """

    context: int  # the most tokens that a cache may hold (1 for a bigram)
    vocab_size: int

    def prefill(self, rows: Sequence[Sequence[int]]) -> tuple[Logits, Any]:
        """Read rows of any lengths from 1 to the context; return the logits after each, (B, V), and their cache."""

    def step(self, ids_B: Ints, cache: Any) -> tuple[Logits, Any]:
        """Feed one token per row; return the logits after it, (B, V), and the cache that includes it."""

    def logits(self, rows: Sequence[Sequence[int]]) -> list[Logits]:
        """Return the logits after every token of each row, (T, V) per row, as `prefill` reads them."""


@runtime_checkable
class ChunkDecoder(Decoder, Protocol):
    """A decoder that can also choose tokens itself, several in a row without a word to the host."""

    chunk: int  # the most tokens per row that one `decode` may make

    def decode(
        self, ids_B: Ints, cache: Any, uniform_NB: Floats, sampling: Sampling, allowed_V: Mask, seen_BV: Mask
    ) -> tuple[Ints, Any]:
        """Feed the last tokens; return N more per row as `choose` does, (N, B), and the cache of all but the last."""


def window_start(length: int, context: int) -> int:
    """Return where the window onto a sequence of `length` tokens starts.

    0 while the sequence fits; then the smallest multiple of half a context that leaves at most `context` tokens.

    >>> [window_start(length, 8) for length in (0, 8, 9, 12, 13, 16, 17)]
    [0, 0, 4, 4, 8, 8, 12]
    >>> window_start(5, 1)  # a bigram sees the last token
    4
    """
    hop = max(1, context // 2)
    return max(0, -(-(length - context) // hop) * hop)


def left_pad(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Return rows of different lengths as one array, aligned on the right, and each row's padding.

    >>> ids_BT, pad_B = left_pad([[5, 6, 7], [8]])
    >>> ids_BT.tolist(), pad_B.tolist()
    ([[5, 6, 7], [0, 0, 8]], [0, 2])
    """
    length = max(len(row) for row in rows)
    ids_BT = np.zeros((len(rows), length), dtype=np.int64)
    for b, row in enumerate(rows):
        ids_BT[b, length - len(row) :] = row
    return ids_BT, np.array([length - len(row) for row in rows], dtype=np.int64)


class Slots(Protocol):
    """Room for at most `size` sequences that are fed together; sequence number b is in slot b."""

    context: int
    vocab_size: int
    size: int

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        """Return the logits after each window, (B, V).

        Slots in `fresh` are read anew, all others hold all of their window but its last token.
        """

    def move(self, source: int, target: int) -> None:
        """Put the last sequence, in slot `source`, where one has left: in slot `target`, which may be the same."""


class DecoderSlots:
    """Slots over any decoder, which reads all windows again when their set or a start changes."""

    def __init__(self, decoder: Decoder, size: int) -> None:
        self.decoder = decoder
        self.size = size
        self.context = decoder.context
        self.vocab_size = decoder.vocab_size
        self.chunk = decoder.chunk if isinstance(decoder, ChunkDecoder) else 1
        self._cache: Any = None

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        """Return the logits after each window (see `Slots`)."""
        if fresh or self._cache is None:
            logits_BV, self._cache = self.decoder.prefill(windows)
        else:
            ids_B = np.array([window[-1] for window in windows], dtype=np.int64)
            logits_BV, self._cache = self.decoder.step(ids_B, self._cache)
        return logits_BV

    def move(self, source: int, target: int) -> None:
        """Forget the cache: the next `feed` reads everything (see `Slots`)."""
        self._cache = None

    def decode(self, ids_B: Ints, uniform_NB: Floats, sampling: Sampling, allowed_V: Mask, seen_BV: Mask) -> Ints:
        """Return the next N tokens of every sequence, (N, B), as `ChunkDecoder.decode`."""
        assert isinstance(self.decoder, ChunkDecoder)
        ids_NB, self._cache = self.decoder.decode(ids_B, self._cache, uniform_NB, sampling, allowed_V, seen_BV)
        return ids_NB


@runtime_checkable
class SlotDecoder(Decoder, Protocol):
    """A decoder that has slots of its own."""

    def slots(self, size: int) -> Slots:
        """Return room for `size` sequences."""


def open_slots(decoder: Decoder, size: int) -> Slots:
    """Return `size` slots over a decoder: its own where it has such."""
    return decoder.slots(size) if isinstance(decoder, SlotDecoder) else DecoderSlots(decoder, size)


class TokenSequence:
    """The token ids of one text being decoded, prompt included, and how its next token is drawn."""

    def __init__(
        self,
        prompt: Sequence[int],
        vocab_size: int,
        sampling: Sampling,
        rng: np.random.Generator,
        first_allowed_V: Mask | None = None,
    ) -> None:
        if not prompt:
            raise ValueError("every prompt needs at least one token")
        self.ids = list(prompt)
        self.prompt_length = len(prompt)
        self.sampling = sampling
        self.rng = rng
        self.first_allowed_V = first_allowed_V  # which tokens may be the first; None: all
        self.seen_V = np.zeros(vocab_size, dtype=bool)
        self.seen_V[self.ids] = True
        self.start = -1  # of the window that its slot holds


Held = TypeVar("Held", bound=TokenSequence)


class Batch(Generic[Held]):
    """The sequences that are decoded together; tokens in `banned_ids` never come. One thread at a time."""

    def __init__(self, slots: Slots, banned_ids: Sequence[int] = ()) -> None:
        self.slots = slots
        self.running: list[Held] = []
        self.decoder_seconds = 0.0  # spent in the slots so far; the rest is choosing tokens and bookkeeping
        self._chunks = slots if isinstance(slots, DecoderSlots) and slots.chunk > 1 else None
        self._banned = bool(banned_ids)
        self._allowed_V = np.ones(slots.vocab_size, dtype=bool)
        self._allowed_V[list(banned_ids)] = False

    def join(self, sequence: Held) -> None:
        """Let a sequence in: the next turn reads it."""
        if len(self.running) == self.slots.size:
            raise ValueError(f"all {self.slots.size} slots are taken")
        sequence.start = -1
        self.running.append(sequence)

    def leave(self, sequence: Held) -> None:
        """Let a sequence go; the last one takes its slot."""
        slot = self.running.index(sequence)
        self.slots.move(len(self.running) - 1, slot)
        self.running[slot] = self.running[-1]
        self.running.pop()

    def turn(self) -> tuple[Ints, Logits]:
        """Feed every sequence once; add its next token. Return the tokens, (B,), and what they were drawn from."""
        starts = [window_start(len(sequence.ids), self.slots.context) for sequence in self.running]
        fresh = [slot for slot, sequence in enumerate(self.running) if sequence.start != starts[slot]]
        windows = [sequence.ids[start:] for sequence, start in zip(self.running, starts, strict=True)]
        began = time.perf_counter()
        logits_BV = self.slots.feed(windows, fresh)
        self.decoder_seconds += time.perf_counter() - began
        for sequence, start in zip(self.running, starts, strict=True):
            sequence.start = start
        ids_B = self._draw(logits_BV)
        self._add(ids_B[None])
        return ids_B, logits_BV

    def steps(self, count: int) -> Iterator[Ints]:
        """Yield the next token of every sequence, of shape (B,), `count` times; all must be drawn alike.

        A `ChunkDecoder` makes several at a time, so that they come in bursts.
        """
        while count:
            ids_NB = self._chunk(self._chunks, count) if self._chunks else self.turn()[0][None]
            yield from ids_NB
            count -= len(ids_NB)

    def _chunk(self, slots: DecoderSlots, most: int) -> Ints:
        """Return the next tokens, (N, B): as many as the decoder makes at once and the windows hold, at least one."""
        room = min(self.slots.context - len(sequence.ids) + sequence.start for sequence in self.running) + 1
        if room < 1 or any(sequence.start < 0 for sequence in self.running):
            return self.turn()[0][None]
        count = min(slots.chunk, most, room)
        uniform_NB = np.stack([sequence.rng.random(count) for sequence in self.running], axis=1)
        last_B = np.array([sequence.ids[-1] for sequence in self.running], dtype=np.int64)
        seen_BV = np.stack([sequence.seen_V for sequence in self.running])
        began = time.perf_counter()
        ids_NB = slots.decode(last_B, uniform_NB, self.running[0].sampling, self._allowed_V, seen_BV)
        self.decoder_seconds += time.perf_counter() - began
        self._add(ids_NB)
        return ids_NB

    def _add(self, ids_NB: Ints) -> None:
        for sequence, ids_N in zip(self.running, ids_NB.T.tolist(), strict=True):
            sequence.ids += ids_N
            sequence.seen_V[ids_N] = True

    def _draw(self, logits_BV: Logits) -> Ints:
        """Return the next token of every sequence; those that are drawn alike are drawn together."""
        logits_BV = self._allowed(logits_BV)
        alike: dict[Sampling, list[int]] = {}
        for slot, sequence in enumerate(self.running):
            alike.setdefault(sequence.sampling, []).append(slot)
        ids_B = np.empty(len(self.running), dtype=np.int64)
        for sampling, slots in alike.items():
            sequences = [self.running[slot] for slot in slots]
            drawn_from_BV = logits_BV if len(alike) == 1 else logits_BV[slots]
            uniform_B = np.array([sequence.rng.random() for sequence in sequences])
            seen_BV = None
            if sampling.repetition_penalty != 1:
                seen_BV = np.stack([sequence.seen_V for sequence in sequences])
            allowed_V = self._allowed_V if self._banned else None
            ids_B[slots] = choose(drawn_from_BV, sampling, uniform_B, allowed_V, seen_BV)
        return ids_B

    def _allowed(self, logits_BV: Logits) -> Logits:
        """Return the logits with those of tokens that may not come next at -inf."""
        allowed_BV = logits_BV
        for slot, sequence in enumerate(self.running):
            if sequence.first_allowed_V is not None and len(sequence.ids) == sequence.prompt_length:
                allowed_BV = logits_BV.copy() if allowed_BV is logits_BV else allowed_BV
                allowed_BV[slot, ~sequence.first_allowed_V] = -np.inf
        return allowed_BV


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    rngs: Sequence[np.random.Generator],
    banned_ids: Sequence[int] = (),
    first_allowed_BV: Mask | None = None,
) -> Iterator[Ints]:
    """Yield the next token of every prompt, of shape (B,), `max_new_tokens` times.

    Each prompt has its random numbers (see `sample_rng`); its first token is one that `first_allowed_BV` marks.
    `ValueError` for a prompt without a token.
    """
    batch = Batch[TokenSequence](DecoderSlots(decoder, len(prompts)), banned_ids)
    for number, (prompt, rng) in enumerate(zip(prompts, rngs, strict=True)):
        first_allowed_V = None if first_allowed_BV is None else first_allowed_BV[number]
        batch.join(TokenSequence(prompt, decoder.vocab_size, sampling, rng, first_allowed_V))
    return batch.steps(max_new_tokens)
