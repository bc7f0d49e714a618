"""The bigram network: the next token's logits are one row of a V x V table, chosen by the current token alone.

It is the first step of the lecture: the same interface as `gpt.GPT`, no attention. Trained long enough, it must reach
the loss of the bigram counted from the same text. Source: the first model of karpathy/makemore and of the lecture
"Let's build GPT".

Shape suffixes: B batch, T tokens, V vocabulary.
"""

from typing import NamedTuple

from torch import Tensor, nn

from gptmodel.params import BigramNetwork


class Cache(NamedTuple):
    """What a bigram remembers: nothing but each row's left padding."""

    pad_B: Tensor


class Bigram(nn.Module):
    """A table of logits, learned by gradient."""

    def __init__(self, config: BigramNetwork, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.context = config.context
        self.vocab_size = vocab_size
        self.table = nn.Embedding(vocab_size, vocab_size)
        nn.init.zeros_(self.table.weight)  # the uniform distribution

    def empty_cache(self, pad_B: Tensor) -> Cache:
        """Return the cache before the first token; `pad_B` (int64) is the left padding of each row."""
        return Cache(pad_B)

    def forward(self, ids_BT: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache | None]:
        """Return logits of shape (B, T, V) and the unchanged cache."""
        return self.table(ids_BT), cache
