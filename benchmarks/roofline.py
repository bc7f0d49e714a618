"""The physical limit of decoding: how fast this machine reads memory. Every weight is read once per token.

    python benchmarks/roofline.py [--device cpu|cuda] [--threads 1 2] [--mb 43 340]      print GB/s

Two figures: an array far larger than the last-level cache, and one of a model's size, which may stay in the caches
from one token to the next. Each is the fastest of several passes of torch's sum and of a product with itself, on
threads as asked. Left out on purpose: writes, latency.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

PASSES, SECONDS = 10, 1.0
FAR = 4  # times the last-level cache
LEAST_FAR_BYTES, MOST_MEMORY = 1 << 30, 0.25  # share of the machine's memory
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux only


def far_bytes() -> int:
    """Return the size of an array that no cache holds."""
    sizes = [path.read_text().strip() for path in CACHES.glob("index*/size")]
    largest = max((int(size.removesuffix("K")) << 10 for size in sizes), default=0)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(max(FAR * largest, LEAST_FAR_BYTES), int(MOST_MEMORY * memory))


def read_gb_per_s(size: int, threads: int, device: str = "cpu") -> float:
    """Return the rate at which `size` bytes are read, again and again."""
    torch.set_num_threads(threads)
    array = torch.ones(size // 4, device=device)
    return size / min(_seconds(kernel, array) for kernel in (torch.sum, _with_itself)) / 1e9


def _with_itself(array: Tensor) -> Tensor:
    return torch.dot(array, array)


def _seconds(kernel: Callable[[Tensor], Tensor], array: Tensor) -> float:
    """Return the time of the fastest pass; `item` waits for a GPU."""
    kernel(array).item()
    passes = list[float]()
    while len(passes) < PASSES or sum(passes) < SECONDS:
        started = time.perf_counter()
        kernel(array).item()
        passes.append(time.perf_counter() - started)
    return min(passes)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    arguments.add_argument("--mb", type=int, nargs="+", default=[43, 340])
    asked = arguments.parse_args()
    for threads in dict.fromkeys(asked.threads):
        for size in (far_bytes(), *(mb * 1_000_000 for mb in asked.mb)):
            rate = read_gb_per_s(size, threads, asked.device)
            print(f"{threads} threads, {size / 1e6:,.0f} MB: {rate:.1f} GB/s")


if __name__ == "__main__":
    main()
