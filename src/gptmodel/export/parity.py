"""The gate in front of a bundle: what is exported must compute what torch computes, or nothing is written.

A graph in fp32 is compared with the torch network in the three ways it is used (whole windows against the training
forward, a ragged batch, one token at a time through the cache), and then by the text it writes, beyond the context.
A graph in fewer bits is judged by what it is for: how much more a text costs that it has not seen.
"""

from collections.abc import Sequence

import numpy as np

from gptmodel.arrays import Ids, Ints, Logits
from gptmodel.data import windows
from gptmodel.data.windows import first_token_nats
from gptmodel.decoding.engine import Decoder, generate, left_pad, window_start
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.errors import UserError
from gptmodel.results.bundle import Cost, Parity

LOGITS_PER_BATCH = 1 << 22  # 16 MiB of fp32 per decoder
GREEDY_HOPS = 3  # half contexts generated past the context
GREEDY_AT_LEAST = 500  # tokens
GREEDY = Sampling(temperature=0)


def check(reference: Decoder, candidate: Decoder, ids: Ids, window: int, tolerance: float) -> Parity:
    """Compare two decoders on windows of a text's token ids and return the figures; `window` is the training context.

    `reference` must accept None as the cache: the forward that training uses. `UserError` names the first check whose
    largest difference is above `tolerance`.
    """
    windows_NT = windows.spread(ids, min(window, len(ids)))
    whole = _whole(reference, candidate, windows_NT)
    _pass("whole windows", whole, tolerance)
    ragged = _ragged(reference, candidate, windows_NT[0])
    _pass("a ragged batch", ragged, tolerance)
    stepwise = _stepwise(reference, candidate, windows_NT[-1])
    _pass("one token at a time", stepwise, tolerance)
    prompt = windows_NT[0, : max(1, windows_NT.shape[1] // 4)].tolist()
    count = max(GREEDY_AT_LEAST, window + GREEDY_HOPS * window // 2)
    equal = _greedy(reference, candidate, prompt, count, tolerance)
    return Parity(
        tolerance=tolerance,
        positions=windows_NT.size,
        windows_difference=whole,
        ragged_difference=ragged,
        stepwise_difference=stepwise,
        greedy_tokens=count,
        greedy_tokens_equal=equal,
    )


def cost(candidate: Decoder, ids: Ids, window: int, torch_nats: float, limit: float) -> Cost:
    """Return what a text costs `candidate`, in the windows of `loss.total_nats`, which gave `torch_nats` for torch.

    `UserError` where that is more than `limit` (a share of it) above torch's.
    """
    nats = first_token_nats(candidate.vocab_size)
    for batch in windows.batches(windows.plan(len(ids), window), LOGITS_PER_BATCH // candidate.vocab_size):
        nats += _nats(candidate, windows.read(ids, batch).astype(np.int64))
    change = nats / torch_nats - 1
    if not change <= limit:  # NaN does not pass
        raise UserError(
            f"the text costs {change:+.2%} more bits than in torch, above the limit of {limit:.2%}; nothing was"
            " written: raise it in params.yaml (export), or train a model that bears fewer bits"
        )
    return Cost(limit=limit, tokens=len(ids), torch_nats=torch_nats, nats=nats, change=change)


def _nats(decoder: Decoder, ids_BS: Ints) -> float:
    """Return the cost of every token but the first in each row of `ids_BS`."""
    logits_BTV, _ = decoder(ids_BS[:, :-1], decoder.empty_cache(np.zeros(len(ids_BS), dtype=np.int64)))
    top_BT1 = logits_BTV.max(axis=-1, keepdims=True)
    log_mass_BT = np.log(np.exp(logits_BTV - top_BT1).sum(axis=-1)) + top_BT1[..., 0]
    taken_BT = np.take_along_axis(logits_BTV, ids_BS[:, 1:, None], axis=-1)[..., 0]
    return float((log_mass_BT - taken_BT).sum(dtype=np.float64))


def _whole(reference: Decoder, candidate: Decoder, windows_NT: Ints) -> float:
    """Each window at once, without padding."""
    largest = 0.0
    rows = max(1, LOGITS_PER_BATCH // (windows_NT.shape[1] * reference.vocab_size))
    for first in range(0, len(windows_NT), rows):
        ids_BT = windows_NT[first : first + rows]
        expected, _ = reference(ids_BT, None)
        given, _ = candidate(ids_BT, candidate.empty_cache(np.zeros(len(ids_BT), dtype=np.int64)))
        largest = _larger(largest, expected, given)
    return largest


def _ragged(reference: Decoder, candidate: Decoder, window_T: Ints) -> float:
    """Rows of different lengths padded on the left, then the rest of the window token by token."""
    length = len(window_T)
    prompt = max(1, length - 8)
    ids_BT, pad_B = left_pad([window_T[:size].tolist() for size in sorted({1, prompt // 3 + 1, prompt})])
    caches = reference.empty_cache(pad_B), candidate.empty_cache(pad_B)
    real_BT = np.arange(ids_BT.shape[1]) >= pad_B[:, None]
    largest = 0.0
    for place in range(prompt, length + 1):
        (expected, first), (given, second) = reference(ids_BT, caches[0]), candidate(ids_BT, caches[1])
        caches = first, second
        largest = _larger(largest, expected[real_BT], given[real_BT])
        if place < length:
            ids_BT = np.full((len(pad_B), 1), window_T[place])
            real_BT = np.ones_like(ids_BT, dtype=bool)
    return largest


def _stepwise(reference: Decoder, candidate: Decoder, window_T: Ints) -> float:
    """One window fed token by token through the cache."""
    pad_B = np.zeros(1, dtype=np.int64)
    caches = reference.empty_cache(pad_B), candidate.empty_cache(pad_B)
    largest = 0.0
    for token in window_T:
        ids_BT = np.array([[token]])
        (expected, first), (given, second) = reference(ids_BT, caches[0]), candidate(ids_BT, caches[1])
        caches = first, second
        largest = _larger(largest, expected, given)
    return largest


def _greedy(reference: Decoder, candidate: Decoder, prompt: list[int], count: int, tolerance: float) -> int:
    """Return how many tokens of the greedy text are equal: all, or those before a tie within the tolerance."""
    texts = [_continue(decoder, prompt, count) for decoder in (reference, candidate)]
    for place, (expected, given) in enumerate(zip(*texts, strict=True)):
        if expected != given:
            seen = prompt + texts[0][:place]
            ids_BT, pad_B = left_pad([seen[window_start(len(seen), reference.context) :]])
            logits_BTV, _ = reference(ids_BT, reference.empty_cache(pad_B))
            margin = float(logits_BTV[0, -1, expected] - logits_BTV[0, -1, given])
            _pass(f"the greedy text (token {place + 1})", margin, 2 * tolerance)
            return place
    return count


def _continue(decoder: Decoder, prompt: Sequence[int], count: int) -> list[int]:
    return [int(ids_B[0]) for ids_B in generate(decoder, [prompt], count, GREEDY, [sample_rng(0, 0)])]


def _larger(largest: float, expected: Logits, given: Logits) -> float:
    difference = float(np.abs(expected - given).max())
    return difference if np.isnan(difference) else max(largest, difference)


def _pass(check: str, difference: float, tolerance: float) -> None:
    if not difference <= tolerance:  # NaN does not pass
        raise UserError(
            f"parity of torch and ONNX Runtime, {check}: logits differ by {difference:.2e}, more than export.tolerance"
            f" {tolerance:.0e}; nothing was written: raise the tolerance in params.yaml or report it as a bug"
        )
