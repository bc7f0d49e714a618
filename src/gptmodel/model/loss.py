"""What a text costs a model, exactly: every token is scored, and levels are compared in bits per character of the text.

A text is cut into windows of the training context that do not overlap, and each token is predicted from what stands
before it in its window. The first token of the text, which nothing precedes, is one of all tokens, each as likely. A
character that the tokenizer does not know costs the unknown token plus a uniform choice among all Unicode characters.

`sliding_nats` is a second protocol, to be labelled wherever it is shown: its windows overlap, so that only the first
tokens of the text are predicted from a short past. It finds a lower cost and takes longer (Press et al. 2021,
arXiv:2012.15832).

Shape suffixes: B windows in a batch, T tokens of a window, S = T + 1 with the one after it, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gptmodel.arrays import Floats, Ids
from gptmodel.data import windows
from gptmodel.data.windows import Window, first_token_nats
from gptmodel.model.networks import LanguageModel

LARGEST_EXPONENT = 700.0  # e^709 is the largest float
LOGITS_PER_BATCH = 1 << 20  # 4 MiB of fp32 logits at once


@dataclass(frozen=True)
class Score:
    """The cost of a text, in nats, and what the text consists of."""

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

    `share` (k, n) is the k-th of n parts, which together cost the whole: for n processes, one each. The full batches
    are dealt out in turn; the first part also has the first token and the shorter window at the end.
    `between` is called before each batch; what it raises ends the evaluation.
    """
    part, parts = share
    batches = windows.batches(windows.plan(len(ids), network.context), LOGITS_PER_BATCH // network.vocab_size)
    dealt = (number % parts if batch[0].length == network.context else 0 for number, batch in enumerate(batches))
    own = [batch for batch, owner in zip(batches, dealt, strict=True) if owner == part]
    nats = first_token_nats(network.vocab_size) if part == 0 else 0.0
    for scored in _score(network, ids, device, own, between):
        nats += float(scored.sum())
    return nats


def token_nats(network: LanguageModel, ids: Ids, device: torch.device, stride: int | None = None) -> Floats:
    """Return -ln p of each of `ids` (1-D, at least one token), in nats, shape (tokens,); their sum is `total_nats`.

    With a `stride` (1 to the context) every token is predicted from at least context - stride tokens, or from all
    there are. Unknown characters cost extra: add `tokenizer.naming_nats`.
    """
    planned = windows.plan(len(ids), network.context, stride)
    batches = windows.batches(planned, LOGITS_PER_BATCH // network.vocab_size)
    nats = np.full(len(ids), first_token_nats(network.vocab_size))
    for batch, scored in zip(batches, _score(network, ids, device, batches), strict=True):
        first = batch[0].first_scored
        nats[first : first + len(scored)] = scored.numpy()
    return nats


def sliding_nats(network: LanguageModel, ids: Ids, device: torch.device) -> float:
    """Return -ln p of all of `ids`, in nats, in windows that begin half a context apart: see `token_nats`."""
    return float(token_nats(network, ids, device, stride=max(1, network.context // 2)).sum())


def window_nats(network: LanguageModel, ids: Ids, device: torch.device) -> Tensor:
    """Return the cost of every token but the first in each row of `ids` (B, T + 1), in fp32 on the device: (B, T)."""
    tokens_BS = torch.from_numpy(ids.astype(np.int64)).to(device)
    logits_BTV, _ = network(tokens_BS[:, :-1])
    nats = F.cross_entropy(logits_BTV.flatten(0, 1).float(), tokens_BS[:, 1:].flatten(), reduction="none")
    return nats.view(logits_BTV.shape[:2])


@torch.inference_mode()
def _score(
    network: LanguageModel,
    ids: Ids,
    device: torch.device,
    batches: Sequence[Sequence[Window]],
    between: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """Yield, for each batch, the costs of the tokens that it scores, in their order (fp64, on the CPU)."""
    training = network.training
    network.eval()
    try:
        for batch in batches:
            between()
            nats_BT = window_nats(network, windows.read(ids, batch), device)
            scored = [nats_T[-window.scored :] for nats_T, window in zip(nats_BT, batch, strict=True)]
            yield torch.cat(scored).cpu().double()  # MPS has no float64
    finally:
        network.train(training)
