"""Saved states for tests: every kind of tensor and of fact, and whether they came back."""

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from gptmodel.training.saved_states import State, Store

FACTS = {"history": [{"step": 0, "loss": math.nan, "rate": 0.1 + 0.2}, {"step": 5, "loss": 1e-310, "rate": -0.0}]}


def tensors(step: int) -> dict[str, Tensor]:
    """Every dtype in use, shapes from scalar to empty, a transposed view, two names of one memory, odd bit patterns."""
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
    return {
        "weight": weight,
        "tied": weight,
        "row": weight[1],
        "transposed": weight.T,
        "momentum": weight.to(torch.bfloat16),
        "double": weight.double() / 3,
        "step": torch.tensor(step, dtype=torch.int64),
        "scalar": torch.tensor(0.1),
        "odd": torch.tensor([math.nan, -0.0, math.inf, 1e-42]),
        "empty": torch.empty(0, 2),
        "generator": torch.Generator().manual_seed(step).get_state(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def same(state: State | None, step: int) -> bool:
    """Return whether `state` is, bit for bit, what was saved at `step`."""
    if state is None or state.step != step or json.dumps(state.facts) != json.dumps(FACTS):
        return False
    expected = tensors(step)
    return state.tensors.keys() == expected.keys() and all(
        (found.dtype, found.shape) == (expected[name].dtype, expected[name].shape)
        and bytes(found.flatten().view(torch.uint8).numpy())
        == bytes(expected[name].detach().contiguous().flatten().view(torch.uint8).numpy())
        for name, found in state.tensors.items()
    )


def store(folder: Path, keep: int = 2) -> tuple[Store, list[str]]:
    warnings: list[str] = []
    return Store(folder / "print", keep, warnings.append), warnings


def saved(folder: Path, *steps: int, keep: int = 2) -> tuple[Store, list[str]]:
    states, warnings = store(folder, keep)
    for step in steps:
        states.save(step, tensors(step), FACTS)
    return states, warnings


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def names(*steps: int) -> list[str]:
    return sorted(f"step-{step:08d}.safetensors" for step in steps)
