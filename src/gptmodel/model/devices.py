"""Where torch runs: `auto` takes CUDA, then Apple's MPS, then the CPU."""

import torch

from gptmodel.errors import UserError


def pick(name: str) -> torch.device:
    """Return the device called `name` (auto, cpu, cuda, mps); `UserError` if this machine lacks it."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, here in present.items() if here))
    if not present[name]:
        raise UserError(f"device: {name} is not available on this machine: set device: auto in params.yaml")
    return torch.device(name)
