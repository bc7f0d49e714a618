"""Muon, the optimizer of hidden matrices (Jordan 2024, https://kellerjordan.github.io/posts/muon/).

It replaces the gradient of a matrix by the nearest orthogonal one, so that every direction of the matrix learns at the
same speed. The formulas are those of `torch.optim.Muon` (a test holds the two against each other); ours takes the
query, key and value parts of the fused matrix each for itself, which torch's cannot, treats all matrices of one shape
in one batched product, and can skip a step on the device, without asking the host.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gptmodel.model.networks import HiddenMatrix

MOMENTUM = 0.95  # with Nesterov's correction (Jordan 2024)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients (Jordan 2024): steep at 0
NEWTON_SCHULZ_STEPS = 5
TINY = 1e-7  # added to a norm that is divided by


class Muon:
    """Muon over the matrices of a network: `momentum` by name, and decoupled weight decay."""

    def __init__(self, matrices: Sequence[HiddenMatrix], weight_decay: float, dtype: torch.dtype) -> None:
        """`dtype` is the one of the matrix products (bfloat16 is enough)."""
        self._matrices = list(matrices)
        self._weight_decay = weight_decay
        self._dtype = dtype
        self.momentum = {matrix.name: torch.zeros_like(matrix.weight) for matrix in matrices}

    def step(self, learning_rate: Tensor, skip: Tensor) -> None:
        """Take one step, or none where `skip` is 1."""
        if not self._matrices:
            return
        weights: list[Tensor] = [matrix.weight for matrix in self._matrices]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta = list(self.momentum.values())
        if skip.device.type != "cpu":  # a GPU is not asked: it takes its own momentum for the gradient, at rate 0
            gradients = [torch.where(skip > 0, momentum, g) for momentum, g in zip(momenta, gradients, strict=True)]
        elif skip:
            return
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        directions = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        learning_rate = learning_rate * (1 - skip)
        torch._foreach_mul_(weights, 1 - learning_rate * self._weight_decay)
        for pairs in self._by_shape(directions):
            rows, columns = pairs[0][1].shape
            updates = orthogonalise(torch.stack([direction for direction, _ in pairs]).to(self._dtype))
            updates = updates.to(pairs[0][1].dtype) * (-learning_rate * math.sqrt(max(1, rows / columns)))
            torch._foreach_add_([weight for _, weight in pairs], list(updates.unbind()))

    def _by_shape(self, directions: Sequence[Tensor]) -> list[list[tuple[Tensor, Tensor]]]:
        """Return (direction, weight) of every single matrix, those of one shape together."""
        found: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for matrix, direction in zip(self._matrices, directions, strict=True):
            for part, weight in zip(direction.chunk(matrix.parts), matrix.weight.chunk(matrix.parts), strict=True):
                found.setdefault(tuple(part.shape), []).append((part, weight))
        return list(found.values())


def orthogonalise(matrices_NRC: Tensor) -> Tensor:
    """Return roughly U V^T of each matrix U S V^T: singular values above a hundredth of the norm land in 0.6 to 1.3.

    Five Newton-Schulz steps of a quintic (Jordan 2024). Shape (N, rows, columns) in and out.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices_NRC.shape[-2] > matrices_NRC.shape[-1]
    x = matrices_NRC.mT if tall else matrices_NRC
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=TINY)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
