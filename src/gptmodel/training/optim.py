"""The optimizers: Muon for the matrices of the blocks, AdamW for everything else; and the learning rate's schedule.

Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) replaces the gradient of a matrix by the nearest
orthogonal one, so that every direction of the matrix learns at the same speed. The formulas are those of
`torch.optim.Muon` (a test holds the two against each other); ours takes the query, key and value parts of the fused
matrix each for itself, which torch's cannot, treats all matrices of one shape in one batched product, and can skip a
step on the device, without asking the host.

Left out on purpose: parameter groups with learning rates of their own, shapes other than matrices.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gptmodel.params import Training

BETA1 = 0.9  # Adam's default; only beta2 depends on the batch size enough to be a parameter
MOMENTUM = 0.95  # Muon's, with Nesterov's correction (Jordan 2024)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic's coefficients (Jordan 2024): steep at 0
NEWTON_SCHULZ_STEPS = 5
TINY = 1e-7  # added to a norm that is divided by


def rate(step: int, config: Training) -> float:
    """Return the learning rate of step 0 <= step < steps as a share of the peak.

    Linear warm-up, flat, then a fall over the last `warmdown` of the steps to `final_rate`, which would be reached at
    step `steps`: linear, or half a cosine (SGDR, Loshchilov & Hutter 2017, equation 5, without restarts).
    """
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    begin = max(config.warmup_steps, round(config.steps * (1 - config.warmdown)))
    fallen = max(step - begin, 0) / max(config.steps - begin, 1)
    left = (1 + math.cos(math.pi * fallen)) / 2 if config.schedule == "cosine" else 1 - fallen
    return config.final_rate + (1 - config.final_rate) * left


class Optimizer:
    """Both optimizers of one network as one thing: a step, and a state that can be saved."""

    def __init__(self, network: nn.Module, config: Training, dtype: torch.dtype) -> None:
        """`dtype` is the one of Muon's matrix products (bfloat16 is enough)."""
        named = dict(network.named_parameters())
        hidden = {name for name, p in named.items() if config.muon_learning_rate and _is_hidden_matrix(name, p)}
        self._named = named
        self._muon = Muon({name: named[name] for name in hidden}, config.weight_decay, dtype)
        self._adamw = _adamw([p for name, p in named.items() if name not in hidden], config, decay=not hidden)
        self._peaks = (config.learning_rate, config.muon_learning_rate)

    @torch.no_grad()
    def step(self, rate: Tensor, skip: Tensor) -> None:
        """Take one step with `rate` times the peak learning rates; where `skip` (0-d float) is 1, change nothing."""
        peak, muon_peak = self._peaks
        for group in self._adamw.param_groups:
            group["lr"].copy_(peak * rate)
        self._adamw.found_inf = skip  # type: ignore[attr-defined]  # how GradScaler tells the fused kernel
        self._adamw.grad_scale = None  # type: ignore[attr-defined]
        self._adamw.step()
        self._muon.step(muon_peak * rate, skip)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that the next step depends on, by parameter."""
        tensors = {f"muon/{name}": momentum for name, momentum in self._muon.momentum.items()}
        for name, parameter in self._named.items():
            for key, value in self._adamw.state.get(parameter, {}).items():
                tensors[f"adamw/{name}/{key}"] = value
        return tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a `state` of the same network and configuration."""
        for name, momentum in self._muon.momentum.items():
            momentum.copy_(tensors[f"muon/{name}"])
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "adamw":
                parameter, _, key = rest.rpartition("/")
                owner = self._named[parameter]
                self._adamw.state[owner][key] = tensor.to(owner.device).clone()


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Tell the matrices between the embedding and the output, which Muon is made for."""
    return name.startswith("blocks.") and parameter.dim() == 2


def _adamw(parameters: Sequence[nn.Parameter], config: Training, decay: bool) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019); biases and norm gains are not decayed (as nanoGPT)."""
    device = parameters[0].device
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay if decay else 0.0},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    for group in groups:
        group["lr"] = torch.tensor(config.learning_rate, device=device)  # a tensor: a CUDA graph reads it anew
    return torch.optim.AdamW(groups, betas=(BETA1, config.beta2), fused=True, capturable=device.type == "cuda")


class Muon:
    """Muon over named matrices: `momentum` by name, and decoupled weight decay.

    A matrix named `*.qkv.weight` is three matrices below each other.
    """

    def __init__(self, matrices: Mapping[str, nn.Parameter], weight_decay: float, dtype: torch.dtype) -> None:
        self._matrices, self._weight_decay, self._dtype = dict(matrices), weight_decay, dtype
        self.momentum = {name: torch.zeros_like(matrix) for name, matrix in matrices.items()}

    def step(self, learning_rate: Tensor, skip: Tensor) -> None:
        """Take one step, or none where `skip` is 1."""
        if not self._matrices:
            return
        gradients = [matrix.grad for matrix in self._matrices.values() if matrix.grad is not None]
        momenta = list(self.momentum.values())
        if skip.device.type != "cpu":  # a GPU is not asked: it takes its own momentum for the gradient, at rate 0
            gradients = [torch.where(skip > 0, momentum, g) for momentum, g in zip(momenta, gradients, strict=True)]
        elif skip:
            return
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        directions = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        learning_rate = learning_rate * (1 - skip)
        torch._foreach_mul_(list(self._matrices.values()), 1 - learning_rate * self._weight_decay)
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for (name, matrix), direction in zip(self._matrices.items(), directions, strict=True):
            count = 3 if name.endswith("qkv.weight") else 1
            for part, target in zip(direction.chunk(count), matrix.chunk(count), strict=True):
                by_shape.setdefault(tuple(part.shape), []).append((part, target))
        for (rows, columns), pairs in by_shape.items():
            updates = orthogonalise(torch.stack([part for part, _ in pairs]).to(self._dtype))
            updates = updates.to(pairs[0][1].dtype) * (-learning_rate * math.sqrt(max(1, rows / columns)))
            torch._foreach_add_([target for _, target in pairs], list(updates.unbind()))


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
