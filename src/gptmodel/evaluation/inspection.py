"""What can be seen of one trained model, as data for a page: its doubts over a passage, attention, lens, embeddings.

All models show the same passage, which begins and ends where no token reaches across, so that they can be laid side by
side. Left out on purpose: the drawing, and examples chosen by hand.

Sources: those of `gptmodel.evaluation.internals` for attention and lens; Pearson 1901 (principal components) for the plane that the
embeddings are drawn on.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from gptmodel.arrays import Ids, Ints
from gptmodel.data.dataset import Dataset
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.evaluation.breakdown import character_class
from gptmodel.evaluation.internals import Candidate, Explanation, costs, evaluating, explain_ids, likeliest, readable
from gptmodel.evaluation.surprisal import spans
from gptmodel.files import write_text
from gptmodel.model.bigram import Bigram
from gptmodel.model.gpt import GPT
from gptmodel.model.networks import LanguageModel

ALTERNATIVES = 5  # for each token of the passage
LENS_ALTERNATIVES = 3  # for each layer and token of the excerpt
EMBEDDED_TOKENS = 400  # more points than that hide each other
BIGRAM_TOKENS = 40
TOKENS_PER_BATCH = 2048  # on two CPU cores, 10,000 took 1.4 times as long for each
PROBABILITY_DIGITS, COORDINATE_DIGITS = 4, 3  # decimals kept
_LINE = re.compile(r"(?<=\n)(?!\n)")
_SEAM = re.compile(rf"{_LINE.pattern}|(?= )")  # no unit of `units` reaches across, so no token does


def build(
    network: LanguageModel, data: Dataset, texts: Path, passage_characters: int, attention_tokens: int
) -> dict[str, Any]:
    """Return the content of sight.json for `network`.

    `texts` is the folder of validation.txt and test.txt, the texts of `data`. The passage is one of the test text, or
    of the validation text if there is none. Attention and lens are those of the `attention_tokens` tokens from its
    first on, or of as many as the network can look back on.
    """
    split = "test" if len(data.ids["test"]) else "validation"
    text = (texts / f"{split}.txt").read_bytes().decode("utf-8")
    ids, train = np.asarray(data.ids[split]), np.asarray(data.ids["train"])
    start, end = passage(text, passage_characters)
    place = spans(data.tokenizer, ids, text)
    shown = np.flatnonzero((place[:, 0] >= start) & (place[:, 1] <= end))
    first = int(shown[0])
    excerpt = ids[first : first + min(attention_tokens, network.context) + 1]
    inside = explain_ids(network, data.tokenizer, excerpt[:-1])
    commonest = _commonest(train, network.vocab_size)
    return {
        "passage": {"split": split, "start": start, "text": text[start:end]},
        "surprisal": surprisal(network, data.tokenizer, ids, first, place[shown] - start),
        "attention": attention(inside),
        "lens": lens(inside, excerpt[1:]),
        "embeddings": embeddings(network, data.tokenizer, commonest[:EMBEDDED_TOKENS]),
        "positions": positions(network),
        "bigram": bigram(network, data.tokenizer, train, commonest[:BIGRAM_TOKENS]),
    }


def write(path: Path, shown: dict[str, Any]) -> None:
    """Write what `build` returned as JSON on one line: it is for a page, and indented it is three times as long."""
    write_text(path, json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")


def passage(text: str, characters: int) -> tuple[int, int]:
    r"""Return where a passage of at most `characters` in the middle of `text` starts and ends.

    It starts with the line nearest to the middle, and ends before a space or with a line: if there is no such place in
    it, at the next one, so that it always holds a whole token.

    >>> text = "Un.\nDeux trois quatre.\nCinq.\n"
    >>> start, end = passage(text, 16)
    >>> text[start:end]
    'Deux trois'
    """
    middle = (len(text) - characters) / 2
    lines = [0, *(match.start() for match in _LINE.finditer(text))]
    start = min(lines, key=lambda line: abs(line - middle))
    seams = [*(match.start() for match in _SEAM.finditer(text) if match.start() > start), len(text)]
    return start, max((seam for seam in seams if seam <= start + characters), default=seams[0])


def surprisal(network: LanguageModel, tokenizer: Tokenizer, ids: Ids, first: int, place: Ints) -> list[dict[str, Any]]:
    """Return the cost and the likeliest candidates of the tokens from `first` on, one for each row of `place`.

    Each is predicted from as much of the text before it as the network can look back on. `place` (N, 2) are the
    characters that a token spans; where a character is cut into several tokens, each of them spans all of it.
    """
    found: list[tuple[float, list[Candidate]]] = []
    stop, windows = first + len(place), max(1, TOKENS_PER_BATCH // network.context)
    for start in range(first, stop, windows):
        end = min(start + windows, stop)
        expected_NV = expected(network, tokenizer, ids, start, end)
        nats_N = costs(tokenizer, expected_NV, torch.from_numpy(ids[start:end].astype(np.int64)))
        found += zip(nats_N.tolist(), likeliest(tokenizer, expected_NV, ALTERNATIVES), strict=True)
    return [
        {"start": int(start), "end": int(end), "nats": round(nats, PROBABILITY_DIGITS), "top": _rounded(top)}
        for (start, end), (nats, top) in zip(place, found, strict=True)
    ]


@torch.no_grad()
def expected(network: LanguageModel, tokenizer: Tokenizer, ids: Ids, start: int, end: int) -> Tensor:
    """Return the logits that the tokens `start` to `end` of `ids` are met with after a full context, (end - start, V).

    Those nearer to the beginning are met after all there is, the first as if all tokens were equally likely.
    """
    context, rows = network.context, []
    if start < context:
        rows.append(explain_ids(network, tokenizer, ids[:context]).expected_TV[start:end])
    if end > context:
        windows = sliding_window_view(ids, context)[max(start, context) - context : end - context]
        ids_NT = torch.from_numpy(windows.astype(np.int64)).to(next(network.parameters()).device)
        with evaluating(network):
            rows.append(network(ids_NT)[0][:, -1].float().cpu())
    return torch.cat(rows)


def attention(inside: Explanation) -> dict[str, Any] | None:
    """Return every head's weights as base64 of bytes, 255 for 1.0, a row for each reading token; None for a bigram."""
    if inside.attention_LHTT is None:
        return None
    heads_LHTT = (inside.attention_LHTT * 255).round().to(torch.uint8).numpy()
    layers = [[base64.b64encode(head_TT.tobytes()).decode() for head_TT in heads_HTT] for heads_HTT in heads_LHTT]
    return {"tokens": inside.tokens, "layers": layers}


def lens(inside: Explanation, targets: Ids) -> dict[str, Any] | None:
    """Return what each layer would say comes next, and what it would pay for the tokens that do: `targets` (T,).

    None for a bigram.
    """
    if inside.lens_LTV is None:
        return None
    targets_T, tokenizer = torch.from_numpy(targets.astype(np.int64)), inside.tokenizer
    return {
        "tokens": inside.tokens,
        "targets": [readable(tokenizer, token) for token in targets.tolist()],
        "layers": ["embedding", *(f"block {number}" for number in range(1, len(inside.lens_LTV)))],
        "top": [
            [_rounded(row) for row in likeliest(tokenizer, logits_TV, LENS_ALTERNATIVES)]
            for logits_TV in inside.lens_LTV
        ],
        "nats": [
            round(float(costs(tokenizer, logits_TV, targets_T).mean()), PROBABILITY_DIGITS)
            for logits_TV in inside.lens_LTV
        ],
    }


def embeddings(network: LanguageModel, tokenizer: Tokenizer, tokens: Ints) -> dict[str, Any]:
    """Return `tokens` on the plane of their embeddings; a bigram's embedding of a token is its row of the table."""
    table_VC = network.table.weight if isinstance(network, Bigram) else network.token_embedding.weight
    points, shares = plane(table_VC.detach().float().cpu().numpy()[tokens])
    return {
        "points": [
            [readable(tokenizer, token), *xy, _class(tokenizer, token)]
            for token, xy in zip(tokens.tolist(), points, strict=True)
        ],
        "explained": shares,
    }


def positions(network: LanguageModel) -> dict[str, Any] | None:
    """Return the learned positions on their plane, in order; None for a network without."""
    if not isinstance(network, GPT) or network.position_embedding is None:
        return None
    points, shares = plane(network.position_embedding.weight.detach().float().cpu().numpy())
    return {"points": points, "explained": shares}


def plane(x_NC: NDArray[np.floating[Any]]) -> tuple[list[list[float]], list[float]]:
    """Return points on the plane of their first two principal components, and the share of the variance along each.

    A component's sign is free: the coordinate that lies farthest out is made positive.

    >>> plane(np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, 0.0, 3.0], [1.0, 0.0, -3.0]]))
    ([[0.0, -1.0], [0.0, 1.0], [3.0, 0.0], [-3.0, 0.0]], [0.9, 0.1])
    """
    centred_NC = x_NC.astype(np.float64) - x_NC.mean(axis=0, dtype=np.float64)
    directions, sizes, _ = np.linalg.svd(centred_NC, full_matrices=False)
    points_N2 = directions[:, :2] * sizes[:2]
    farthest = points_N2[np.abs(points_N2).argmax(axis=0), [0, 1]]
    points_N2 *= np.where(farthest < 0, -1, 1)
    shares = sizes[:2] ** 2 / max((sizes**2).sum(), np.finfo(float).tiny)
    return (points_N2.round(COORDINATE_DIGITS) + 0.0).tolist(), shares.round(PROBABILITY_DIGITS).tolist()


def bigram(network: LanguageModel, tokenizer: Tokenizer, train: Ids, tokens: Ints) -> dict[str, Any] | None:
    """Return p(next | previous) of `tokens` as counted in `train` and as a bigram network learned it; None for a GPT.

    Rows are the previous token, columns the next; what other tokens get is missing from a row's sum.
    """
    if not isinstance(network, Bigram):
        return None
    learned = network.table.weight.detach().float().softmax(-1).cpu().numpy()[np.ix_(tokens, tokens)]
    return {
        "characters": [readable(tokenizer, token) for token in tokens.tolist()],
        "counted": counted(train, tokens, network.vocab_size).round(PROBABILITY_DIGITS).tolist(),
        "learned": learned.astype(np.float64).round(PROBABILITY_DIGITS).tolist(),
    }


def counted(train: Ids, tokens: Ints, vocab_size: int) -> NDArray[np.float64]:
    """Return count(previous next) / count(previous) for all pairs of `tokens`, shape (N, N).

    >>> counted(np.array([0, 1, 0, 1, 2]), np.array([0, 1]), vocab_size=3)
    array([[0. , 1. ], [0.5, 0. ]])
    """
    rank = np.full(vocab_size, -1)
    rank[tokens] = np.arange(len(tokens))
    previous, following = rank[train[:-1]], rank[train[1:]]
    both = (previous >= 0) & (following >= 0)
    pairs = np.bincount(previous[both] * len(tokens) + following[both], minlength=len(tokens) ** 2)
    totals = np.bincount(train[:-1], minlength=vocab_size)[tokens]
    return np.asarray(pairs.reshape(len(tokens), -1) / np.maximum(totals, 1)[:, None])


def _commonest(train: Ids, vocab_size: int) -> Ints:
    """Return the tokens that occur in `train`, the most frequent first."""
    counts = np.bincount(train, minlength=vocab_size)
    return np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]


def _class(tokenizer: Tokenizer, token: int) -> str:
    """Return the class of a token's first visible character, or of its white space."""
    text = tokenizer.decode([token])
    return character_class((text.strip() or text)[0])


def _rounded(candidates: list[Candidate]) -> list[list[Any]]:
    return [[text, round(p, PROBABILITY_DIGITS)] for text, p in candidates]
