"""What can be seen of one trained model, as data for a page: its surprise over a passage, attention, lens, weights.

All models show the same passage, which begins and ends where no token reaches across, so that they can be laid side by
side. Sources of attention and lens: see `internals`.
"""

import base64
import re
from collections.abc import Mapping

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from gptmodel import params
from gptmodel.arrays import Ids, Ints
from gptmodel.data.dataset import Dataset
from gptmodel.data.tokenizer import Tokenizer, spans
from gptmodel.evaluation import weights
from gptmodel.evaluation.internals import Internals, costs, evaluating, likeliest, read_ids, readable
from gptmodel.evaluation.weights import PROBABILITY_DIGITS
from gptmodel.model.networks import LanguageModel
from gptmodel.results.corpus import SplitName
from gptmodel.results.evaluation import Attention, Candidate, InspectedPassage, Inspection, Lens, Scored, TokenSurprisal

ALTERNATIVES = 5  # for each token of the passage
LENS_ALTERNATIVES = 3  # for each layer and token of the excerpt
EMBEDDED_TOKENS = 400  # more points than that hide each other
BIGRAM_TOKENS = 40
TOKENS_PER_BATCH = 2048  # more are slower on a CPU
_LINE = re.compile(r"(?<=\n)(?!\n)")
_END = re.compile(rf"{_LINE.pattern}|(?= )")  # no unit of `data.pretokenizer` reaches across, so no token does


def build(
    network: LanguageModel, data: Dataset, texts: Mapping[SplitName, str], settings: params.Inspection
) -> Inspection:
    """Return what can be seen of `network`; `texts` are those of `data`, by split.

    The passage is one of the test text, or of the validation text if there is none. Attention and lens are those of the
    `attention_tokens` tokens from its first on, or of as many as the network can look back on.
    """
    split: Scored = "test" if len(data.ids["test"]) else "validation"
    text = texts[split]
    ids = np.asarray(data.ids[split])
    train = np.asarray(data.ids["train"])
    start, end = passage(text, settings.passage_characters)
    spans_T2 = spans(data.tokenizer, ids, text)
    shown = np.flatnonzero((spans_T2[:, 0] >= start) & (spans_T2[:, 1] <= end))
    first = int(shown[0])
    excerpt = ids[first : first + min(settings.attention_tokens, network.context) + 1]
    inside = read_ids(network, data.tokenizer, excerpt[:-1])
    commonest = weights.commonest(train, network.vocab_size)
    return Inspection(
        passage=InspectedPassage(split=split, start=start, text=text[start:end]),
        surprisal=surprisal(network, data.tokenizer, ids, first, spans_T2[shown] - start),
        attention=attention(inside),
        lens=lens(inside, excerpt[1:]),
        embeddings=weights.embeddings(network, data.tokenizer, commonest[:EMBEDDED_TOKENS]),
        positions=weights.positions(network),
        bigram=weights.bigram(network, data.tokenizer, train, commonest[:BIGRAM_TOKENS]),
    )


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
    ends = [*(match.start() for match in _END.finditer(text) if match.start() > start), len(text)]
    return start, max((end for end in ends if end <= start + characters), default=ends[0])


def surprisal(
    network: LanguageModel, tokenizer: Tokenizer, ids: Ids, first: int, spans_N2: Ints
) -> list[TokenSurprisal]:
    """Return the cost and the likeliest candidates of the tokens from `first` on, one for each row of `spans_N2`.

    Each is predicted from as much of the text before it as the network can look back on. `spans_N2` are the characters
    that a token spans; where a character is cut into several tokens, each of them spans all of it.
    """
    found: list[tuple[float, list[Candidate]]] = []
    stop = first + len(spans_N2)
    windows = max(1, TOKENS_PER_BATCH // network.context)
    for start in range(first, stop, windows):
        end = min(start + windows, stop)
        expected_NV = expected(network, tokenizer, ids, start, end)
        nats_N = costs(tokenizer, expected_NV, torch.from_numpy(ids[start:end].astype(np.int64)))
        found += zip(nats_N.tolist(), likeliest(tokenizer, expected_NV, ALTERNATIVES), strict=True)
    return [
        TokenSurprisal(start=int(start), end=int(end), nats=round(nats, PROBABILITY_DIGITS), top=_rounded(top))
        for (start, end), (nats, top) in zip(spans_N2, found, strict=True)
    ]


@torch.no_grad()
def expected(network: LanguageModel, tokenizer: Tokenizer, ids: Ids, start: int, end: int) -> Tensor:
    """Return the logits that the tokens `start` to `end` of `ids` are met with after a full context, (end - start, V).

    Those nearer to the beginning are met after all there is, the first as if all tokens were equally likely.
    """
    context = network.context
    rows = []
    if start < context:
        rows.append(read_ids(network, tokenizer, ids[:context]).expected_TV[start:end])
    if end > context:
        windows = sliding_window_view(ids, context)[max(start, context) - context : end - context]
        ids_NT = torch.from_numpy(windows.astype(np.int64)).to(next(network.parameters()).device)
        with evaluating(network):
            rows.append(network(ids_NT)[0][:, -1].float().cpu())
    return torch.cat(rows)


def attention(inside: Internals) -> Attention | None:
    """Return every head's weights; None for a bigram."""
    if inside.attention_LHTT is None:
        return None
    heads_LHTT = (inside.attention_LHTT * 255).round().to(torch.uint8).numpy()
    layers = [[base64.b64encode(head_TT.tobytes()).decode() for head_TT in heads_HTT] for heads_HTT in heads_LHTT]
    return Attention(tokens=inside.tokens, layers=layers)


def lens(inside: Internals, targets: Ids) -> Lens | None:
    """Return what each layer would predict next, and what the tokens that do come, `targets` (T,), cost by it.

    None for a bigram.
    """
    if inside.lens_LTV is None:
        return None
    tokenizer = inside.tokenizer
    targets_T = torch.from_numpy(targets.astype(np.int64))
    top = [likeliest(tokenizer, logits_TV, LENS_ALTERNATIVES) for logits_TV in inside.lens_LTV]
    nats = [float(costs(tokenizer, logits_TV, targets_T).mean()) for logits_TV in inside.lens_LTV]
    return Lens(
        tokens=inside.tokens,
        targets=[readable(tokenizer, token) for token in targets.tolist()],
        layers=["embedding", *(f"block {number}" for number in range(1, len(inside.lens_LTV)))],
        top=[[_rounded(candidates) for candidates in layer] for layer in top],
        nats=[round(cost, PROBABILITY_DIGITS) for cost in nats],
    )


def _rounded(candidates: list[Candidate]) -> list[Candidate]:
    return [(text, round(share, PROBABILITY_DIGITS)) for text, share in candidates]
