"""How decoding is timed, whoever decodes: the stage `benchmark` and benchmarks/decode.py have this code in common.

What is timed is a `Decode`: it takes prompts, the number of new tokens and a function to call once per step, and
returns the new ids of every row. Standard library only: a peer's environment has nothing else of ours.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence, Sized
from pathlib import Path

Prompts = list[list[int]]
Decode = Callable[[Prompts, int, Callable[[], None]], Sequence[Sized]]
Run = tuple[float, float]  # seconds to the first new token, and from there to the last


def tokens_per_second(
    decode: Decode, prompts: Prompts, new_tokens: int, repeats: int, warm_up: int, seconds: float | None = None
) -> float:
    """Return the median rate of all rows, from the first new token to the last, after `warm_up`; see `repeated`."""
    timed(decode, prompts, warm_up)
    runs = repeated(lambda: timed(decode, prompts, new_tokens), repeats, seconds)
    return statistics.median(len(prompts) * (new_tokens - 1) / rest for _, rest in runs)


def first_token_seconds(decode: Decode, prompt: list[int], repeats: int, seconds: float | None = None) -> float:
    """Return the median time to the first token after a prompt, the first run excluded."""
    timed(decode, [prompt], 1)
    return statistics.median(first for first, _ in repeated(lambda: timed(decode, [prompt], 1), repeats, seconds))


def timed(decode: Decode, prompts: Prompts, new_tokens: int) -> Run:
    """Decode once; `ValueError` where that gave more or fewer tokens than were asked for."""
    ticks = [time.perf_counter()]
    rows = decode(prompts, new_tokens, lambda: ticks.append(time.perf_counter()))
    if len(ticks) != new_tokens + 1 or any(len(row) != new_tokens for row in rows):
        raise ValueError(f"{new_tokens} new tokens were asked for: {len(ticks) - 1} steps, rows of {len(rows[0])}")
    return ticks[1] - ticks[0], ticks[-1] - ticks[1]


def repeated(run: Callable[[], Run], repeats: int, seconds: float | None = None) -> list[Run]:
    """Run `repeats` times, or fewer (at least once) where they take more than `seconds` together."""
    runs = [run()]
    while len(runs) < repeats and (seconds is None or sum(map(sum, runs)) < seconds):
        runs.append(run())
    return runs


def peak_memory_bytes() -> int:
    """Return the most resident memory that this process ever had.

    On Linux from VmHWM: getrusage's figure begins with that of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
