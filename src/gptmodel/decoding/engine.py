"""The one generation loop, over anything that maps token ids to logits. Numpy only."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gptmodel.arrays import Floats, Ints, Logits, Mask
from gptmodel.decoding.sampling import Sampling, choose


class Decoder(Protocol):
    """What turns token ids into logits. A cache is opaque: only the decoder that made it reads it."""

    @property
    def context(self) -> int:
        """The most tokens that cache and new tokens may hold together (1 for a bigram)."""

    @property
    def vocab_size(self) -> int:
        """V."""

    def empty_cache(self, pad_B: Ints) -> Any:
        """Return the cache before the first token; the first `pad_B` places of each row are padding."""

    def __call__(self, ids_BT: Ints, cache: Any, last: bool = False) -> tuple[Logits, Any]:
        """Return logits of shape (B, T, V) and the cache that includes these tokens.

        With `last`, of the last place only: (B, 1, V). The old cache must not be used again: it may share memory.
        """


@runtime_checkable
class ChunkDecoder(Decoder, Protocol):
    """A decoder that can also choose tokens itself, several in a row without a word to the host."""

    @property
    def chunk(self) -> int:
        """The most tokens per row that one `decode` may make."""

    def decode(
        self, ids_B: Ints, cache: Any, uniform_NB: Floats, sampling: "Sampling", allowed_V: Mask, seen_BV: Mask
    ) -> tuple[Ints, Any]:
        """Feed the last tokens; return the next N of every row, (N, B), and the cache with all of them but the last.

        Each token is the one that `choose` gives.
        """


def window_start(length: int, context: int) -> int:
    """Return where the window onto a row of `length` tokens starts.

    0 while the row fits; then the smallest multiple of half a context that leaves at most `context` tokens.

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


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    rngs: Sequence[np.random.Generator],
    banned_ids: Sequence[int] = (),
    first_allowed_BV: Mask | None = None,
) -> Iterator[Ints]:
    """Yield the next token of every row, of shape (B,), `max_new_tokens` times; tokens in `banned_ids` never come.

    Each prompt holds at least one token, and `rngs` has one generator per prompt (see `sample_rng`). The first token
    of each row is one of those that `first_allowed_BV` marks. A `ChunkDecoder` makes up to `chunk` tokens at a time,
    so they come in bursts.
    """
    if not all(prompts):
        raise ValueError("every prompt needs at least one token")
    rows = [list(prompt) for prompt in prompts]
    seen_BV = np.zeros((len(rows), decoder.vocab_size), dtype=bool)
    for row, seen_V in zip(rows, seen_BV, strict=True):
        seen_V[row] = True
    allowed_V = np.ones(decoder.vocab_size, dtype=bool)
    allowed_V[list(banned_ids)] = False

    def draw(logits_B1V: Logits, first_allowed_BV: Mask | None = None) -> Ints:
        logits_BV = logits_B1V[:, -1]
        if first_allowed_BV is not None:
            logits_BV = np.where(first_allowed_BV, logits_BV, -np.inf)
        uniform_B = np.array([rng.random() for rng in rngs])
        return choose(logits_BV, sampling, uniform_B, allowed_V if banned_ids else None, seen_BV)[None]

    def added(ids_NB: Ints) -> Iterator[Ints]:
        for ids_B in ids_NB:
            for b, token in enumerate(ids_B.tolist()):
                rows[b].append(token)
                seen_BV[b, token] = True
            yield ids_B

    chunks = decoder if isinstance(decoder, ChunkDecoder) else None
    made = 0
    while made < max_new_tokens:
        starts = [window_start(len(row), decoder.context) for row in rows]
        end = made + _steps_in_window(rows, starts, decoder.context, max_new_tokens - made)
        ids_BT, pad_B = left_pad([row[start:] for row, start in zip(rows, starts, strict=True)])
        logits_B1V, cache = decoder(ids_BT, decoder.empty_cache(pad_B), last=True)
        ids_NB = draw(logits_B1V, first_allowed_BV if made == 0 else None)
        yield from added(ids_NB)
        made += 1
        while made < end:
            if chunks:
                count = min(chunks.chunk, end - made)
                uniform_NB = np.stack([rng.random(count) for rng in rngs], axis=1)
                ids_NB, cache = chunks.decode(ids_NB[-1], cache, uniform_NB, sampling, allowed_V, seen_BV)
            else:
                logits_B1V, cache = decoder(ids_NB[-1][:, None], cache, last=True)
                ids_NB = draw(logits_B1V)
            yield from added(ids_NB)
            made += len(ids_NB)


def _steps_in_window(rows: Sequence[Sequence[int]], starts: Sequence[int], context: int, most: int) -> int:
    """Return how many tokens every row takes, at most `most`, before the start of any row's window moves."""
    count = 1
    while count < most and all(
        window_start(len(row) + count, context) == start for row, start in zip(rows, starts, strict=True)
    ):
        count += 1
    return count
