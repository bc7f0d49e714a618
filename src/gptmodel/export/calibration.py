"""How large keys and values get: what an 8-bit cache must hold.

An integer of the cache stands for integer x scale, with one scale for a layer's keys and one for its values, fixed
when the graph is written. So the largest key and value of a text have to be known before: the training text is run
through the network and they are looked up in its cache. A larger one that comes later is cut off.

Source: symmetric post-training quantisation, Jacob et al. 2018 (arXiv:1712.05877); the cache in 8 bits:
https://github.com/microsoft/onnxruntime/pull/28578.
"""

import numpy as np
import torch

from gptmodel.arrays import Ids
from gptmodel.data import windows
from gptmodel.export.fast_graph import CacheRanges
from gptmodel.model.gpt import GPT

BATCH_TOKENS = 4096


@torch.no_grad()
def cache_ranges(network: GPT, ids: Ids) -> CacheRanges:
    """Return the largest keys (as they are cached: normalised and turned) and values of each layer on a text."""
    device = network.token_embedding.weight.device
    largest_L2 = torch.zeros(network.config.n_layer, 2, device=device)
    windows_NT = windows.spread(ids, min(network.context, len(ids)))
    batches = -(-windows_NT.size // BATCH_TOKENS)
    for ids_BT in np.array_split(windows_NT, batches):
        no_padding_B = torch.zeros(len(ids_BT), dtype=torch.int64, device=device)
        _, cache = network(torch.from_numpy(ids_BT).to(device), network.empty_cache(no_padding_B))
        found = [(keys.abs().max(), values.abs().max()) for keys, values in zip(*cache[1:], strict=True)]
        largest_L2 = largest_L2.maximum(torch.tensor(found, device=device))
    return [(keys, values) for keys, values in largest_L2.tolist()]
