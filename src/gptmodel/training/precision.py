"""How a machine computes: device, precision of the matrix products, threads, and how fast its matrix products are.

What is chosen here can change the last digits of a training. It follows from what the machine is, never from how busy
it is; it is kept with the state of an unfinished training, which goes on with the choice it began with.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from gptmodel.errors import UserError
from gptmodel.params import Engine

RATE_SIZE = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # large enough to reach what the machine can do
ROUNDS = 5
BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")  # torch's names of x86's and (the last) ARM's
COMPILERS = (os.environ.get("CXX", "g++"), "clang++")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Numerics:
    """Everything about the machine that decides the digits of a training."""

    device: str  # cpu, cuda or mps
    precision: Literal["float32", "bfloat16"]  # of the matrix products; weights and sums are float32
    execution: Literal["eager", "compile", "graph"]
    threads: int  # of the CPU's matrix products and sums

    @property
    def dtype(self) -> torch.dtype:
        """The matrix products' type."""
        return DTYPES[self.precision]

    def autocast(self) -> torch.autocast:
        """Return the context in which torch computes matrix products in this precision."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def describe(self) -> str:
        """Return the precision in words, with what multiplies bfloat16 in hardware: `bfloat16 (amx_bf16)`."""
        hardware = bfloat16_hardware(torch.device(self.device)) if self.precision == "bfloat16" else None
        return f"{self.precision} ({hardware})" if hardware else self.precision

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


def choose(engine: Engine, device: torch.device, say: Callable[[str], None]) -> tuple[Numerics, float]:
    """Return what `engine` asks for on this machine, and the rate of its matrix products in FLOP/s.

    What the machine lacks is replaced, and `say` prints it. `UserError` for a CUDA graph without CUDA.
    """
    execution = engine.execution
    if execution == "graph" and device.type != "cuda":
        raise UserError("engine.execution: graph needs a CUDA device: set eager or compile in params.yaml")
    if execution == "compile" and device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        say("engine.execution: compile needs a C++ compiler (g++ or clang++), which is not there: going on eagerly")
        execution = "eager"
    precision = engine.precision
    if precision == "auto":
        precision = "bfloat16" if bfloat16_hardware(device) else "float32"
    rate = matrix_rate(device, DTYPES[precision], RATE_SIZE[device.type])
    return Numerics(device.type, precision, execution, torch.get_num_threads()), rate


def bfloat16_hardware(device: torch.device) -> str | None:
    """Return what multiplies bfloat16 in hardware on this device, None if nothing does or torch does not know.

    On a CPU the name of its instructions; on CUDA the compute capability (8.0, Ampere, and above). Without such
    hardware bfloat16 is slower than float32.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"compute capability {major}.{minor}" if major >= 8 else None
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # torch 2.13 and above
        return None
    found = torch.cpu.get_capabilities()
    return next((name for name in BFLOAT16_INSTRUCTIONS if found.get(name)), None)


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Return the floating-point operations per second of the product of two matrices of `size` x `size`.

    The median of a few; the first product, which sets things up, does not count.
    """
    a = torch.ones(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        a @ a
        if device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[1:])
