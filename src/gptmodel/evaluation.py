"""Exact evaluation: every token of a text is charged, and levels are compared in bits per character of the text.

A text is cut into non-overlapping windows of the training context, each predicted from its own past only; the first
token of the text, which nothing precedes, is charged as uniform. A character that the tokenizer does not know costs
the unknown token plus a uniform choice among all Unicode characters: nothing is free.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from gptmodel.batches import Ids
from gptmodel.networks import LanguageModel

UNICODE_CHARACTERS = 0x110000 - 0x800  # all code points but the surrogates
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


def unknown_nats(ids: Ids, unknown_id: int | None) -> float:
    """Return what naming the unknown characters among `ids` costs, on top of the unknown token itself."""
    if unknown_id is None:
        return 0.0
    return float(np.count_nonzero(ids == unknown_id)) * math.log(UNICODE_CHARACTERS)


@torch.inference_mode()
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
    training, context = network.training, network.context
    part, parts = share
    nats = math.log(network.vocab_size) if part == 0 else 0.0  # the first token: nothing precedes it
    count = max(1, LOGITS_PER_BATCH // (context * network.vocab_size))  # windows per batch
    whole = (len(ids) - 1) // context
    network.eval()
    try:
        for first in range(part * count, whole, parts * count):
            between()
            windows = ids[first * context : min(first + count, whole) * context + 1]
            nats += _window_nats(network, windows, device)
        if part == 0 and (len(ids) - 1) % context:
            nats += _window_nats(network, ids[whole * context :], device)
    finally:
        network.train(training)
    return nats


def _window_nats(network: LanguageModel, ids: Ids, device: torch.device) -> float:
    """Return the cost of whole windows below each other, or of one that is shorter."""
    tokens = torch.from_numpy(ids.astype(np.int64)).to(device)
    logits_BTV, _ = network(tokens[:-1].view(-1, min(network.context, len(ids) - 1)))
    losses = F.cross_entropy(logits_BTV.flatten(0, 1).float(), tokens[1:], reduction="none")
    return float(losses.cpu().double().sum())  # MPS has no float64
