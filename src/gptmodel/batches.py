"""Training windows: batch(step) is a pure function of (seed, step), so any step can be repeated exactly."""

import numpy as np
from numpy.typing import NDArray

from gptmodel.errors import UserError

Ids = NDArray[np.unsignedinteger]


def check_context(context: int, splits: dict[str, Ids], variant: str) -> None:
    """Refuse a context that does not fit into each split that is not empty."""
    for name, ids in splits.items():
        if 0 < len(ids) <= context:
            raise UserError(
                f"params.yaml: models.{variant}.context: {context} tokens are longer than the {name} split "
                f"({len(ids)} tokens): lower the context or take a longer text"
            )


def batch(ids: Ids, seed: int, step: int, batch_size: int, context: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `batch_size` windows at random places and the same windows one token later, each (B, T).

    >>> x, y = batch(np.arange(10, dtype=np.uint16), seed=1, step=7, batch_size=2, context=4)
    >>> x.shape, bool((y == x + 1).all())
    ((2, 4), True)
    """
    starts = np.random.default_rng([seed, step]).integers(0, len(ids) - context, size=batch_size)
    window = ids[starts[:, None] + np.arange(context + 1)].astype(np.int64)
    return window[:, :-1], window[:, 1:]
