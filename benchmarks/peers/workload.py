"""What every peer is asked to do. It needs numpy, and of ours only what times it: `gptmodel.runtime.timing`.

A peer script holds `load`, which returns a `Loaded`, and where the peer has a file format of its own `convert`, and
ends in `main(load, convert)`. It runs as

    PY benchmarks/peers/NAME.py FOLDER JSON      FOLDER: weights of `weights.write`; JSON: the fields of `Job`

and prints one line of JSON (see `measure`). The conversion runs once, in a process before, so that neither its time nor
its memory counts.

Tokens per second are those of decoding: the clock runs from the first new token to the last; `batch_1_far` is that of
one row after the long prompt, when attention weighs as much as the weights. Greedy; nothing ends a row
before its length (token 0, which never comes, where a peer insists on an end); all rows of a batch have one length;
prompts are random, the same for every peer.
"""

import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptmodel.runtime.timing import Decode, Prompts, first_token_seconds, peak_memory_bytes, tokens_per_second

WARM_UP_TOKENS, GREEDY_TOKENS = 8, 32


@dataclass(frozen=True)
class Job:
    """One measurement: `mode` is a precision, of `ours` also the kind of graph; `seconds` bound the repeats."""

    mode: str
    device: str
    threads: int
    batches: list[int]
    vocab_size: int
    context: int
    prompt_tokens: int = 16
    new_tokens: int = 128
    long_prompt: int = 512
    repeats: int = 5
    seconds: float = 3.0


class Loaded(NamedTuple):
    """A model ready to decode; `decode` calls tick once per step and returns the new ids of each row."""

    decode: Decode
    weights_bytes: int  # as they are read for every token
    packages: tuple[str, ...]
    most_rows: int | None = None  # larger batches are left out


def ticked(steps: Callable[[Prompts, int], Iterable[Sequence[int]]]) -> Decode:
    """Return the `Decode` of a loop that yields the next id of every row."""

    def decode(prompts: Prompts, new_tokens: int, tick: Callable[[], None]) -> list[list[int]]:
        columns = []
        for ids in steps(prompts, new_tokens):
            tick()
            columns.append(ids)
        rows: list[list[int]] = np.array(columns).T.tolist()
        return rows

    return decode


def prompts(job: Job, rows: int, tokens: int) -> Prompts:
    """Return random rows without token 0; the first is the same for any number of rows."""
    asked: Prompts = np.random.default_rng(0).integers(1, job.vocab_size, (rows, tokens)).tolist()
    return asked


def measure(loaded: Loaded, job: Job) -> dict[str, Any]:
    """Return medians after a warm-up that does not count, and what the first row of batch 1 said."""
    rates = {
        f"batch_{rows}": tokens_per_second(
            *(loaded.decode, prompts(job, rows, job.prompt_tokens), job.new_tokens),
            *(job.repeats, WARM_UP_TOKENS, job.seconds),
        )
        for rows in job.batches
        if rows <= (loaded.most_rows or rows)
    }
    far = prompts(job, 1, job.long_prompt)
    rates["batch_1_far"] = tokens_per_second(
        loaded.decode, far, job.new_tokens, job.repeats, WARM_UP_TOKENS, job.seconds
    )
    first = first_token_seconds(loaded.decode, far[0], job.repeats, job.seconds)
    said = loaded.decode(prompts(job, 1, job.prompt_tokens), GREEDY_TOKENS, lambda: None)[0]
    return {
        "tokens_per_second": rates,
        "first_token_ms": 1000 * first,
        "peak_memory_mb": peak_memory_bytes() / 1e6,
        "weights_mb": loaded.weights_bytes / 1e6,
        "versions": {"python": platform.python_version(), **versions(loaded.packages)},
        "greedy_tokens": np.asarray(said).tolist(),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the version of each package that is installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def folder_bytes(path: Path, pattern: str) -> int:
    """Return the size of the files that hold the weights."""
    return sum(file.stat().st_size for file in path.glob(pattern))


def main(
    load: Callable[[Path, Job], Loaded],
    convert: Callable[[Path, Path, Job], None] | None = None,
) -> None:
    """Convert once if need be (in a process of its own), load, measure and print.

    `convert` writes FOLDER to its second argument, which is then what `load` gets.
    """
    folder, job = Path(sys.argv[1]), Job(**json.loads(sys.argv[2]))
    converted = folder / f"{Path(sys.argv[0]).stem}-{job.mode}-{job.device}"
    with contextlib.redirect_stdout(sys.stderr):
        if convert and sys.argv[3:] == ["convert"]:
            partial = converted.with_name(f"{converted.name}.partial")
            convert(folder, partial, job)
            partial.rename(converted)
            return
        if convert and not converted.exists():
            code = subprocess.run([sys.executable, *sys.argv, "convert"], stdout=sys.stderr, check=False).returncode
            if code:
                sys.exit(code if code > 0 else f"the conversion was ended by signal {-code}")
        result = measure(load(converted if convert else folder, job), job)
    print(json.dumps(result))
