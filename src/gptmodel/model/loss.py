"""Exact evaluation: every token of a text is charged, and levels are compared in bits per character of the text.

A text is cut into non-overlapping windows of the training context, each predicted from its own past only; the first
token of the text, which nothing precedes, is charged as uniform. A character that the tokenizer does not know costs
the unknown token plus a uniform choice among all Unicode characters: nothing is free.

`sliding_nats` is a second protocol, kinder and dearer, to be labelled wherever it is shown: the windows overlap, so
that no token but the text's first ones is predicted from a short past (Press et al. 2021, arXiv:2012.15832).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gptmodel.arrays import Floats, Ids
from gptmodel.model.networks import LanguageModel

LARGEST_EXPONENT = 700.0  # e^709 is the largest float
LOGITS_PER_BATCH = 1 << 20  # 4 MiB of fp32 logits at once


@dataclass(frozen=True)
class Score:
    """What a model pays for a text, in nats, and what the text consists of."""

    nats: float
    tokens: int
    characters: int
    bytes: int
    words: int

    @classmethod
    def of(cls, nats: float, tokens: int, text: str) -> "Score":
        """Relate `nats` for all of `tokens` tokens to the text they encode."""
        return cls(nats, tokens, len(text), len(text.encode()), len(text.split()))

    @property
    def loss_nats(self) -> float:
        """Mean cost of a token: comparable within one tokenizer only."""
        return self.nats / self.tokens

    @property
    def bits_per_char(self) -> float:
        """Mean cost of a character of the original text: comparable across levels.

        >>> Score(nats=math.log(2) * 30, tokens=4, characters=10, bytes=12, words=2).bits_per_char
        3.0
        """
        return self.nats / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        """Mean cost of a byte of the text in UTF-8."""
        return self.nats / math.log(2) / self.bytes

    @property
    def word_perplexity(self) -> float:
        """exp(cost of a word), where a word is what stands between white space.

        At most e^700: a text written without spaces is one word, and its perplexity no float.
        """
        return math.exp(min(self.nats / max(self.words, 1), LARGEST_EXPONENT))

    def as_dict(self) -> dict[str, float]:
        """Return the figures for metrics.json."""
        return {
            "loss_nats": self.loss_nats,
            "bits_per_char": self.bits_per_char,
            "bits_per_byte": self.bits_per_byte,
            "word_perplexity": self.word_perplexity,
            "tokens": self.tokens,
            "characters": self.characters,
        }


def total_nats(
    network: LanguageModel,
    ids: Ids,
    device: torch.device,
    share: tuple[int, int] = (0, 1),
    between: Callable[[], None] = lambda: None,
) -> float:
    """Return -ln p of all of `ids` (1-D, at least one token), in nats. The network's mode is restored.

    `share` (k, n) is the k-th of n parts, which together cost the whole: for n processes, one each.
    `between` is called between batches; what it raises ends the evaluation.
    """
    nats = math.log(network.vocab_size) if share[0] == 0 else 0.0  # the first token: nothing precedes it
    for _, charged in _batches(network, ids, device, network.context, share, between):
        nats += float(charged.sum())
    return nats


def token_nats(network: LanguageModel, ids: Ids, device: torch.device, stride: int | None = None) -> Floats:
    """Return -ln p of each of `ids` (1-D, at least one token), in nats, shape (tokens,); their sum is `total_nats`.

    With a `stride` (1 to the context) the windows begin that many tokens apart and each charges what none before it
    did: every token is predicted from at least context - stride tokens, those too near the beginning from all there
    are. Naming the unknown characters costs extra: add `surprisal.naming_nats`.
    """
    nats = np.full(len(ids), math.log(network.vocab_size))  # the first token: nothing precedes it
    for first, charged in _batches(network, ids, device, stride or network.context):
        nats[first : first + len(charged)] = charged.numpy()
    return nats


def sliding_nats(network: LanguageModel, ids: Ids, device: torch.device) -> float:
    """Return -ln p of all of `ids`, in nats, in windows that begin half a context apart: see `token_nats`."""
    return float(token_nats(network, ids, device, stride=max(1, network.context // 2)).sum())


def window_nats(network: LanguageModel, ids: Ids, device: torch.device) -> Tensor:
    """Return the cost of every token but the first in each row of `ids` (B, 1 + T), in fp32 and in place: (B, T)."""
    tokens_BS = torch.from_numpy(ids.astype(np.int64)).to(device)
    logits_BTV, _ = network(tokens_BS[:, :-1])
    nats = F.cross_entropy(logits_BTV.flatten(0, 1).float(), tokens_BS[:, 1:].flatten(), reduction="none")
    return nats.view(logits_BTV.shape[:2])


@torch.inference_mode()
def _batches(
    network: LanguageModel,
    ids: Ids,
    device: torch.device,
    stride: int,
    share: tuple[int, int] = (0, 1),
    between: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield, batch by batch, the place of the first token charged and the costs from it on (fp64, on the CPU).

    Windows begin at 0, stride, 2 stride ..; the first charges all its tokens, the others their last `stride`, and what
    is left at the end is charged in a window that is shorter.
    """
    training, context, (part, parts) = network.training, network.context, share
    count = max(1, LOGITS_PER_BATCH // (context * network.vocab_size))  # windows per batch
    whole = max(0, (len(ids) - 1 - context) // stride + 1)
    network.eval()
    try:
        for first in range(part * count, whole, parts * count):
            between()
            starts = np.arange(first, min(first + count, whole)) * stride
            nats_BT = window_nats(network, ids[starts[:, None] + np.arange(context + 1)], device)
            nats = nats_BT[:, -stride:].flatten()
            if first == 0:
                nats = torch.cat((nats_BT[0, :-stride], nats))
            yield 1 + first * stride + (context - stride if first else 0), nats.cpu().double()  # MPS has no float64
        charged = (whole - 1) * stride + context if whole else 0
        left = len(ids) - 1 - charged
        if part == 0 and left:
            nats_BT = window_nats(network, ids[None, whole * stride :], device)
            yield 1 + charged, nats_BT[0, -left:].cpu().double()
    finally:
        network.train(training)
