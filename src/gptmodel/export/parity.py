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
from gptmodel.decoding import scoring
from gptmodel.decoding.engine import Decoder, generate, window_start
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.errors import UserError
from gptmodel.results.bundle import Cost, Parity

LOGITS_PER_BATCH = 1 << 22  # 16 MiB of fp32 per decoder
GREEDY_HOPS = 3  # half contexts generated past the context
GREEDY_AT_LEAST = 500  # tokens
GREEDY = Sampling(temperature=0)


def check(reference: Decoder, candidate: Decoder, ids: Ids, window: int, tolerance: float) -> Parity:
    """Compare two decoders on windows of a text's token ids and return the figures; `window` is the training context.

    `UserError` names the first check whose largest difference is above `tolerance`.
    """
    windows_NT = windows.spread(ids, min(window, len(ids)))
    whole = _whole(reference, candidate, windows_NT)
    _pass("whole windows", whole, tolerance)
    ragged = _ragged(reference, candidate, windows_NT[0])
    _pass("a ragged batch", ragged, tolerance)
    stepwise = _stepped(reference, candidate, [windows_NT[-1, :1].tolist()], windows_NT[-1, 1:])
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
    for nats_BT in scoring.window_nats(candidate, ids, window):
        nats += float(nats_BT.sum(dtype=np.float64))
    change = nats / torch_nats - 1
    if not change <= limit:  # NaN does not pass
        raise UserError(
            f"the text costs {change:+.2%} more bits than in torch, above the limit of {limit:.2%}; nothing was"
            " written: raise it in params.yaml (export), or train a model that bears fewer bits"
        )
    return Cost(limit=limit, tokens=len(ids), torch_nats=torch_nats, nats=nats, change=change)


def _whole(reference: Decoder, candidate: Decoder, windows_NT: Ints) -> float:
    """Each window at once, without padding."""
    largest = 0.0
    count = max(1, LOGITS_PER_BATCH // (windows_NT.shape[1] * reference.vocab_size))
    for first in range(0, len(windows_NT), count):
        rows = windows_NT[first : first + count].tolist()
        largest = _larger(largest, reference.logits(rows), candidate.logits(rows))
    return largest


def _ragged(reference: Decoder, candidate: Decoder, window_T: Ints) -> float:
    """Rows of different lengths, then the rest of the window token by token."""
    length = len(window_T)
    prompt = max(1, length - 8)
    rows = [window_T[:size].tolist() for size in sorted({1, prompt // 3 + 1, prompt})]
    largest = _larger(0.0, reference.logits(rows), candidate.logits(rows))
    return float(np.maximum(largest, _stepped(reference, candidate, rows, window_T[prompt:])))


def _stepped(reference: Decoder, candidate: Decoder, rows: list[list[int]], rest_T: Ints) -> float:
    """Rows as a prompt, then the same tokens for each of them."""
    expected, reference_cache = reference.prefill(rows)
    given, candidate_cache = candidate.prefill(rows)
    largest = _larger(0.0, [expected], [given])
    for token in rest_T:
        ids_B = np.full(len(rows), token)
        expected, reference_cache = reference.step(ids_B, reference_cache)
        given, candidate_cache = candidate.step(ids_B, candidate_cache)
        largest = _larger(largest, [expected], [given])
    return largest


def _greedy(reference: Decoder, candidate: Decoder, prompt: list[int], count: int, tolerance: float) -> int:
    """Return how many tokens of the greedy text are equal: all, or those before a tie within the tolerance."""
    texts = [
        [int(ids_B[0]) for ids_B in generate(decoder, [prompt], count, GREEDY, [sample_rng(0, 0)])]
        for decoder in (reference, candidate)
    ]
    for place, (expected, given) in enumerate(zip(*texts, strict=True)):
        if expected != given:
            seen = prompt + texts[0][:place]
            logits_1V, _ = reference.prefill([seen[window_start(len(seen), reference.context) :]])
            margin = float(logits_1V[0, expected] - logits_1V[0, given])
            _pass(f"the greedy text (token {place + 1})", margin, 2 * tolerance)
            return place
    return count


def _larger(largest: float, expected: Sequence[Logits], given: Sequence[Logits]) -> float:
    """Return the largest difference so far; NaN once there is one."""
    differences = [float(np.abs(wanted - found).max()) for wanted, found in zip(expected, given, strict=True)]
    return float(np.max([largest, *differences]))


def _pass(check: str, difference: float, tolerance: float) -> None:
    if not difference <= tolerance:  # NaN does not pass
        raise UserError(
            f"parity of torch and ONNX Runtime, {check}: logits differ by {difference:.2e}, more than export.tolerance"
            f" {tolerance:.0e}; nothing was written: raise the tolerance in params.yaml or report it as a bug"
        )
