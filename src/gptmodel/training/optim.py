"""The optimizer of a training: Muon for the hidden matrices, AdamW for everything else."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gptmodel.model import networks
from gptmodel.model.networks import LanguageModel
from gptmodel.params import Training
from gptmodel.training.muon import Muon

BETA1 = 0.9  # Adam's default; only beta2 depends on the batch size enough to be a parameter


class Optimizer:
    """Both optimizers of one network as one thing: a step, and a state that can be saved."""

    def __init__(self, network: LanguageModel, config: Training, dtype: torch.dtype) -> None:
        """`dtype` is the one of Muon's matrix products (bfloat16 is enough)."""
        self._named = dict(network.named_parameters())
        hidden = networks.hidden_matrices(network) if config.muon_learning_rate else []
        of_muon = {matrix.name for matrix in hidden}
        rest = [parameter for name, parameter in self._named.items() if name not in of_muon]
        trained = [*rest, *(matrix.weight for matrix in hidden)]
        assert sorted(map(id, trained)) == sorted(map(id, self._named.values())), "a parameter has not one optimizer"
        self._muon = Muon(hidden, config.weight_decay, dtype)
        self._adamw = _adamw(rest, config, decay=not hidden)
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
            if name.startswith("adamw/"):
                parameter, _, key = name.removeprefix("adamw/").rpartition("/")
                owner = self._named[parameter]
                self._adamw.state[owner][key] = tensor.to(owner.device).clone()


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
