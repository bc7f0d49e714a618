"""How large keys and values get: what an 8-bit cache must hold.

An integer of the cache stands for integer x scale, with one scale for a layer's keys and one for its values, fixed
when the graph is written. So the largest key and value of a text have to be known before: the training text is run
through the network and they are looked up in its cache. A larger one that comes later is cut off.

Left out on purpose: a scale per channel (see `fast_graph`), cutting off outliers on purpose (measured: 0.7 of the
largest costs the test text of the default character model 0.09 % more, instead of nothing).
Source: symmetric post-training quantisation, Jacob et al. 2018 (arXiv:1712.05877); the cache in 8 bits:
https://github.com/microsoft/onnxruntime/pull/28578.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gptmodel.model.gpt import GPT

POSITIONS = 20_000  # at least, in windows spread evenly over the text: they overlap in a short one
BATCH_TOKENS = 4096

CacheRanges = Sequence[tuple[float, float]]  # per layer: the largest magnitude of its keys and of its values


@torch.no_grad()
def cache_ranges(network: GPT, ids: npt.NDArray[np.integer[Any]]) -> CacheRanges:
    """Return the largest keys (as they are cached: normalised and turned) and values of each layer on a text."""
    length = min(network.context, len(ids))
    starts = np.unique(np.linspace(0, len(ids) - length, -(-POSITIONS // length)).astype(np.int64))
    device = network.token_embedding.weight.device
    largest_L2 = torch.zeros(network.config.n_layer, 2, device=device)
    for part in np.array_split(starts, -(-len(starts) * length // BATCH_TOKENS)):
        ids_BT = torch.tensor(np.stack([ids[start : start + length] for start in part]).astype(np.int64), device=device)
        _, cache = network(ids_BT, network.empty_cache(torch.zeros(len(part), dtype=torch.int64, device=device)))
        found = [(keys.abs().max(), values.abs().max()) for keys, values in zip(*cache[1:], strict=True)]
        largest_L2 = largest_L2.maximum(torch.tensor(found, device=device))
    return [(keys, values) for keys, values in largest_L2.tolist()]
