"""A torch network as a `decoding.engine.Decoder`: numpy in, numpy out, the cache stays on the network's device.

Used for samples during training and as the reference of the ONNX parity gate.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gptmodel.arrays import Ints, Logits
from gptmodel.decoding.engine import left_pad
from gptmodel.model import bigram, gpt
from gptmodel.model.networks import LanguageModel

Cache = gpt.Cache | bigram.Cache


class TorchDecoder:
    """Decodes with a network that is in evaluation mode (`ValueError` otherwise: dropout would be on)."""

    def __init__(self, network: LanguageModel) -> None:
        self._network = network
        self._device = next(network.parameters()).device
        self.vocab_size = network.vocab_size
        self.context = network.context if isinstance(network, gpt.GPT) else 1  # a bigram sees one token

    def prefill(self, rows: Sequence[Sequence[int]]) -> tuple[Logits, Cache]:
        """Return the logits after each row, (B, V) in fp32, and the cache of all rows, padded on the left."""
        ids_BT, pad_B = left_pad(rows)
        logits_BTV, cache = self._run(ids_BT, self._network.empty_cache(self._tensor(pad_B)))
        assert cache is not None
        return _numpy(logits_BTV[:, -1]), cache

    def step(self, ids_B: Ints, cache: Cache) -> tuple[Logits, Cache]:
        """Return the logits after one more token per row, (B, V), and the new cache; the old one stays as it was."""
        logits_BTV, after = self._run(ids_B[:, None], cache)
        assert after is not None
        return _numpy(logits_BTV[:, -1]), after

    def logits(self, rows: Sequence[Sequence[int]]) -> list[Logits]:
        """Return the logits after every token of each row, (T, V) per row.

        Rows of one length are read as in training: without a cache and without padding.
        """
        ids_BT, pad_B = left_pad(rows)
        cache = self._network.empty_cache(self._tensor(pad_B)) if pad_B.any() else None
        logits_BTV = _numpy(self._run(ids_BT, cache)[0])
        return [logits_TV[pad:] for logits_TV, pad in zip(logits_BTV, pad_B.tolist(), strict=True)]

    @torch.inference_mode()
    def _run(self, ids_BT: Ints, cache: Cache | None) -> tuple[Tensor, Cache | None]:
        if self._network.training:
            raise ValueError("the network is in training mode: call .eval() first")
        result: tuple[Tensor, Cache | None] = self._network(self._tensor(ids_BT), cache)
        return result

    def _tensor(self, array: Ints) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _numpy(logits: Tensor) -> Logits:
    array: Logits = logits.float().cpu().numpy()
    return array
