"""Training windows: where they lie at a step is a pure function of (seed, step), so any step can be repeated exactly.

Nothing is consumed and nothing has to be saved: a training that goes on from step s reads what it would have read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gptmodel.arrays import Ids, Ints
from gptmodel.errors import UserError
from gptmodel.results.corpus import SplitName


def check_context(context: int, splits: Mapping[SplitName, Ids], model: str) -> None:
    """Refuse a context that does not fit into each split that is not empty."""
    for name, ids in splits.items():
        if 0 < len(ids) <= context:
            raise UserError(
                f"params.yaml: models.{model}.context: {context} tokens are longer than the {name} split "
                f"({len(ids)} tokens): lower the context or take a longer text"
            )


@dataclass(frozen=True)
class Windows:
    """The windows of `context` tokens and the token after, in a text of `tokens` > `context` tokens.

    `shuffled`: an epoch cuts the text into windows that do not overlap, from a first token of its own (its phase), and
    visits them in random order. Every token is read once per epoch; up to one window at the start (before the phase)
    and up to two at the end are skipped, so that all epochs have the same length.
    `random`: every window lies anywhere, as in nanoGPT.

    >>> windows = Windows(tokens=18, context=4, batch_size=3, seed=1, order="shuffled")
    >>> [windows.starts(step).tolist() for step in range(2)]  # two epochs of three windows
    [[1, 5, 9], [10, 2, 6]]
    """

    tokens: int
    context: int
    batch_size: int
    seed: int
    order: Literal["shuffled", "random"]

    def starts(self, step: int) -> Ints:
        """Return the first token of each window of the global batch of `step`, shape (batch_size,)."""
        if self.order == "random":
            rng = np.random.default_rng([self.seed, step])
            return rng.integers(0, self.tokens - self.context, size=self.batch_size)
        number = np.arange(step * self.batch_size, (step + 1) * self.batch_size)  # of windows since the beginning
        epochs, positions = np.divmod(number, self.per_epoch)
        starts = np.empty(self.batch_size, dtype=np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            here = epochs == epoch
            starts[here] = _shuffled(self.seed, epoch, self.phases, self.per_epoch, self.context)[positions[here]]
        return starts

    @property
    def phases(self) -> int:
        """How many first tokens an epoch can have: all those of one window, fewer in a very short text."""
        return min(self.context, self.tokens - self.context)

    @property
    def per_epoch(self) -> int:
        """Windows of an epoch, the same whatever its phase."""
        return (self.tokens - self.phases) // self.context


@lru_cache(maxsize=2)  # a batch can lie across two epochs
def _shuffled(seed: int, epoch: int, phases: int, per_epoch: int, context: int) -> Ints:
    rng = np.random.default_rng([seed, epoch])
    return np.asarray(rng.integers(phases) + context * rng.permutation(per_epoch))


def gather(ids: Tensor, starts: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Return the windows that begin at `starts` and the same one token later, (B, T) each, int64.

    `ids` (1-D) and `starts` lie on the device of the training.

    >>> x, y = gather(torch.arange(10), torch.tensor([0, 5]), context=3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]])
    """
    window = ids[starts[:, None] + torch.arange(context + 1, device=ids.device)].long()
    return window[:, :-1], window[:, 1:]
