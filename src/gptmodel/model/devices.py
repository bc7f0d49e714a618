"""Where torch runs: `auto` takes CUDA, then Apple's MPS, then the CPU; there, on all cores but one.

The core that stays free is for whatever else runs. A step waits for its slowest thread, and a thread that shares its
core with another program is late at every step (benchmarks/threads.py).
"""

import os
from typing import Literal

import torch

from gptmodel.errors import UserError

VARIABLE = "OMP_NUM_THREADS"  # what a single run is told, and what torchrun tells each of its processes


def use(name: str, threads: Literal["auto"] | int) -> torch.device:
    """Let torch compute on so many CPU threads in this process, and return the device called `name`, as `pick`.

    `auto` is one thread fewer than torch takes by itself, a thread per core, but at least one. OMP_NUM_THREADS in the
    environment goes before `threads`.
    """
    if VARIABLE not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1) if threads == "auto" else threads)
    return pick(name)


def pick(name: str) -> torch.device:
    """Return the device called `name` (auto, cpu, cuda, mps); `UserError` if this machine lacks it."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, here in present.items() if here))
    if not present[name]:
        raise UserError(f"device: {name} is not available on this machine: set device: auto in params.yaml")
    return torch.device(name)
