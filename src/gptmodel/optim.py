"""AdamW with weight decay on matrices only, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from gptmodel.params import Training

BETA1 = 0.9  # Adam's default; only beta2 depends on the batch size enough to be a parameter


def adamw(network: nn.Module, config: Training) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019); biases and norm gains are not decayed (as nanoGPT)."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(BETA1, config.beta2))


def learning_rate(step: int, config: Training) -> float:
    """Return the learning rate of step 0 <= step < steps: linear warm-up, then half a cosine to the final value.

    At the last step it is `final_learning_rate` (SGDR, Loshchilov & Hutter 2017, equation 5, without restarts).
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(config.steps - 1 - config.warmup_steps, 1)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
