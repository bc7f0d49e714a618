"""Sampling and the one generation loop, over anything that maps token ids to logits. Numpy only.

A `Decoder` keeps no hidden state: the cache goes in and comes out. The torch networks (`torch_decoder`) and the ONNX
Runtime session (`onnx_decoder`) are decoders, so samples during training, the parity gate, the command line and the
benchmark all run this loop.

Two laws hold, and are tested. A row's tokens depend on its own prompt, seed and sample number only, never on the rows
beside it. And decoding with the cache gives what recomputing the whole window at every step gives.

Past the context: a row of n tokens is seen through a window that starts at a place which is a pure function of n
(`window_start`). While no row's start moves, each step feeds one token to the cache; when any does, the whole batch is
read again, each row from its own start. As starts move by half a context, that costs a few per cent.

Left out on purpose: text (see `generation`), beam search.
Sources: top-p is Holtzman et al. 2020 (arXiv:1904.09751), top-k Fan et al. 2018 (arXiv:1805.04833), the repetition
penalty Keskar et al. 2019 (arXiv:1909.05858, section 4.1).

Shape suffixes: B batch, T new tokens, N steps, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gptmodel.errors import UserError

COLDEST = 1e-200  # temperatures below would overflow; at it all but the likeliest weigh 0 already

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Decoder(Protocol):
    """What turns token ids into logits. A cache is opaque: only the decoder that made it reads it."""

    @property
    def context(self) -> int:
        """The most tokens that cache and new tokens may hold together (1 for a bigram)."""

    @property
    def vocab_size(self) -> int:
        """V."""

    def empty_cache(self, pad_B: Ids) -> Any:
        """Return the cache before the first token; the first `pad_B` places of each row are padding."""

    def __call__(self, ids_BT: Ids, cache: Any, last: bool = False) -> tuple[Logits, Any]:
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
        self, ids_B: Ids, cache: Any, uniform_NB: Floats, sampling: "Sampling", allowed_V: Mask, seen_BV: Mask
    ) -> tuple[Ids, Any]:
        """Feed the last tokens; return the next N of every row, (N, B), and the cache with all of them but the last.

        Each token is the one that `choose` gives.
        """


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; `UserError` for a value that makes no sense.

    `temperature` 0 takes the likeliest token. `top_k` 0 and `top_p` 1 leave all tokens in the draw; with both, the
    nucleus is cut from the k likeliest. Above 1, `repetition_penalty` makes the tokens of the row so far less likely.
    """

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be 0 (the likeliest token) or above, not {self.temperature}")
        if self.top_k < 0:
            raise UserError(f"top-k must be 0 (all tokens) or above, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p must be above 0 and at most 1 (all tokens), not {self.top_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise UserError(f"repetition-penalty must be above 0 (1: none), not {self.repetition_penalty}")


def sample_rng(seed: int, sample: int) -> np.random.Generator:
    """Return the stream of uniform numbers of one row: the same for the same seed and sample number, anywhere."""
    return np.random.default_rng([seed, sample])


def choose(
    logits_BV: Logits, sampling: Sampling, uniform_B: Floats, allowed_V: Mask | None = None, seen_BV: Mask | None = None
) -> Ids:
    """Return one token per row, by inverting the cumulative distribution at one uniform number per row.

    Only tokens of `allowed_V` (default: all) are taken; those of `seen_BV` pay the repetition penalty. The
    distribution is accumulated in the order of the ids, in float64, so that rounding in the logits moves the
    thresholds by as little as itself and never reorders tokens. Equally likely tokens: the lower id comes first.

    >>> logits = np.log(np.array([[0.1, 0.6, 0.3]], dtype=np.float32))
    >>> [int(choose(logits, Sampling(1.0), np.array([u]))[0]) for u in (0.05, 0.5, 0.75)]
    [0, 1, 2]
    >>> [int(choose(logits, Sampling(1.0, top_k=2), np.array([u]))[0]) for u in (0.05, 0.5, 0.75)]
    [1, 1, 2]
    >>> int(choose(logits, Sampling(0.0), np.array([0.99]), allowed_V=np.array([True, False, True]))[0])
    2
    >>> seen = np.array([[False, True, False]])
    >>> int(choose(logits, Sampling(0.0, repetition_penalty=3), np.array([0.0]), seen_BV=seen)[0])
    2
    """
    scores_BV: npt.NDArray[np.floating[Any]] = logits_BV
    if sampling.temperature > 0 or sampling.repetition_penalty != 1:
        scores_BV = logits_BV.astype(np.float64)
    if seen_BV is not None and sampling.repetition_penalty != 1:
        penalty = sampling.repetition_penalty
        scores_BV = np.where(seen_BV, np.where(scores_BV > 0, scores_BV / penalty, scores_BV * penalty), scores_BV)
    if allowed_V is not None:
        scores_BV = np.where(allowed_V, scores_BV, -np.inf)
    if sampling.temperature == 0:
        likeliest_B: Ids = scores_BV.argmax(axis=1)
        return likeliest_B
    divisor = max(sampling.temperature, COLDEST)
    weight_BV = np.exp((scores_BV - scores_BV.max(axis=1, keepdims=True)) / divisor)
    if sampling.top_k or sampling.top_p < 1:
        weight_BV = _keep_likeliest(weight_BV, sampling)
    mass_BV = weight_BV.cumsum(axis=1)
    chosen_B: Ids = (mass_BV <= uniform_B[:, None] * mass_BV[:, -1:]).sum(axis=1)
    last_B: Ids = weight_BV.shape[1] - 1 - (weight_BV[:, ::-1] > 0).argmax(axis=1)
    return np.minimum(chosen_B, last_B)  # uniform x mass may round up to the whole mass


def _keep_likeliest(weight_BV: Floats, sampling: Sampling) -> Floats:
    """Return the weights with those outside the k likeliest, then outside the nucleus, set to 0.

    Of equals at the edge the lower ids stay.
    """
    sorted_BV = -np.sort(-weight_BV, axis=1)
    if sampling.top_k:
        sorted_BV[:, sampling.top_k :] = 0
    mass_BV = sorted_BV.cumsum(axis=1)
    inside_BV = mass_BV - sorted_BV < sampling.top_p * mass_BV[:, -1:]  # the likeliest has nothing before it
    if sampling.top_p == 1:
        inside_BV[:] = True
    if sampling.top_k:
        inside_BV[:, sampling.top_k :] = False
    kept_B = inside_BV.sum(axis=1)
    edge_B1 = sorted_BV[np.arange(len(kept_B)), kept_B - 1][:, None]
    at_least_BV = weight_BV >= edge_B1
    if np.array_equal(at_least_BV.sum(axis=1), kept_B):  # mostly: no equals beyond the edge
        return np.where(at_least_BV, weight_BV, 0.0)
    equal_BV, above_BV = weight_BV == edge_B1, weight_BV > edge_B1
    places_B1 = kept_B[:, None] - above_BV.sum(axis=1, keepdims=True)
    return np.where(above_BV | (equal_BV & (equal_BV.cumsum(axis=1) <= places_B1)), weight_BV, 0.0)


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


def left_pad(rows: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
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
) -> Iterator[Ids]:
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

    def draw(logits_B1V: Logits, first_allowed_BV: Mask | None = None) -> Ids:
        logits_BV = logits_B1V[:, -1]
        if first_allowed_BV is not None:
            logits_BV = np.where(first_allowed_BV, logits_BV, -np.inf)
        uniform_B = np.array([rng.random() for rng in rngs])
        return choose(logits_BV, sampling, uniform_B, allowed_V if banned_ids else None, seen_BV)[None]

    def added(ids_NB: Ids) -> Iterator[Ids]:
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
