"""A torch network as a `decoding.Decoder`: numpy in, numpy out, the cache stays on the network's device.

Used for samples during training and as the reference of the ONNX parity gate.
"""

import numpy as np
import torch

from gptmodel.arrays import Ints, Logits
from gptmodel.model import bigram, gpt
from gptmodel.model.networks import LanguageModel


class TorchDecoder:
    """Decodes with a network that is in evaluation mode (`ValueError` otherwise: dropout would be on)."""

    def __init__(self, network: LanguageModel) -> None:
        self._network = network
        self._device = next(network.parameters()).device
        self.vocab_size = network.vocab_size
        self.context = network.context if isinstance(network, gpt.GPT) else 1  # a bigram sees one token

    def empty_cache(self, pad_B: Ints) -> gpt.Cache | bigram.Cache:
        """Return the cache before the first token."""
        return self._network.empty_cache(self._tensor(pad_B))

    @torch.inference_mode()
    def __call__(
        self, ids_BT: Ints, cache: gpt.Cache | bigram.Cache | None, last: bool = False
    ) -> tuple[Logits, gpt.Cache | bigram.Cache | None]:
        """Return logits (B, T, V) in fp32, or (B, 1, V) of the last place, and the new cache.

        Without a cache: the training forward, no padding.
        """
        if self._network.training:
            raise ValueError("the network is in training mode: call .eval() first")
        logits_BTV, cache = self._network(self._tensor(ids_BT), cache)
        return (logits_BTV[:, -1:] if last else logits_BTV).float().cpu().numpy(), cache

    def _tensor(self, array: Ints) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
