"""What a training asks of a machine, at least, known before the network is built.

The counts are exact: those of the real network without its memory (torch's `meta` device), of one and of two blocks,
as every further block adds the same. Left out is what differs between machines and kernels, so that nothing is refused
that would run: most activations, the buffers of the optimizers, the saved states, torch itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from gptmodel import memory
from gptmodel.errors import UserError
from gptmodel.model import networks
from gptmodel.params import BigramModel, Engine, Model

FLOAT = 4  # bytes
SECONDS_PER_DAY = 86_400
LONGEST_DAYS = 3650  # as if nothing but matrix products took time, at the rate that was measured


class Demand(NamedTuple):
    """What one process needs, at least."""

    parameters: int
    bytes: int  # weights, gradients and moments
    flops_per_token: float


def of(model: Model, vocab_size: int) -> Demand:
    """Return the demand of a model's training, its activations left out."""
    if isinstance(model, BigramModel):
        return _counted(model, vocab_size)
    one, two = (_counted(model.model_copy(update={"n_layer": layers}), vocab_size) for layers in (1, 2))
    more = model.n_layer - 1
    return Demand(
        parameters=one.parameters + more * (two.parameters - one.parameters),
        bytes=one.bytes + more * (two.bytes - one.bytes),
        flops_per_token=one.flops_per_token + more * (two.flops_per_token - one.flops_per_token),
    )


def _counted(model: Model, vocab_size: int) -> Demand:
    with torch.device("meta"):
        network = networks.build(networks.architecture(model), vocab_size)
    hidden = networks.hidden_matrices(network) if model.muon_learning_rate else []
    parameters = networks.count_parameters(network)
    by_muon = sum(matrix.weight.numel() for matrix in hidden)  # one moment, AdamW has two
    return Demand(parameters, FLOAT * (4 * parameters - by_muon), networks.flops_per_token(network))


def window_bytes(model: Model, vocab_size: int, on_cpu: bool) -> int:
    """Return what the backward pass of a single window holds, at least, where each step is computed as written.

    The softmax of the logits and its gradient; on a CPU, the attention of every head too (see `gpt.attend`).
    """
    logits = 2 * FLOAT * model.context * vocab_size
    if isinstance(model, BigramModel) or not on_cpu:
        return logits
    return logits + FLOAT * model.n_layer * model.n_head * model.context**2


def check_memory(
    name: str, model: Model, engine: Engine, vocab_size: int, device: torch.device, processes: int
) -> None:
    """Refuse a model that cannot be trained in the memory of this machine."""
    demand = of(model, vocab_size)
    needed = demand.bytes
    if engine.execution == "eager":
        needed += window_bytes(model, vocab_size, device.type == "cpu")
    present = None
    if device.type == "cpu":
        needed = processes * needed + FLOAT * demand.parameters  # of the best weights so far, on one process
        present = memory.present()
    elif device.type == "cuda":
        present = torch.cuda.get_device_properties(device).total_memory
    sizes = [
        f"{key} {getattr(model, key)}" for key in ("n_layer", "n_embd", "n_hidden", "context") if hasattr(model, key)
    ]
    what = f"models.{name}: {', '.join(sizes)} with {vocab_size:,} tokens ({demand.parameters:,} parameters)"
    memory.require(needed, present, what, "make the network smaller")


def check_time(name: str, model: Model, vocab_size: int, rate: float, say: Callable[[str], None]) -> None:
    """Say how long a training of days takes, at least, at `rate` FLOP/s of all processes; refuse one of many years."""
    tokens = model.steps * model.batch_size * model.context
    days = of(model, vocab_size).flops_per_token * tokens / rate / SECONDS_PER_DAY
    line = (
        f"{name}: {model.steps:,} steps of {model.batch_size:,} windows take at least {days:,.0f} days on this machine"
    )
    if days > LONGEST_DAYS:
        raise UserError(f"params.yaml: models.{line}: lower steps, batch_size or the network's size")
    if days > 1:
        say(line)
