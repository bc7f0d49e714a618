"""How fast and how large a bundle is on this machine: load time, first token, tokens per second, memory.

Each graph runs in a fresh process, so that memory and load time are those of the runtime alone (numpy, tokenizers and
ONNX Runtime), not of the stage that asks. Every figure is the median of several runs after a warm-up that does not
count.

Left out on purpose: peers (see benchmarks/), energy, several processes at once.

    python -m gptmodel.runtime.latency BUNDLE JSON GRAPH    print the figures as JSON; JSON holds the fields of `Workload`
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptmodel.arrays import Ints, Logits
from gptmodel.decoding.engine import ChunkDecoder, Decoder, generate
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.errors import one_line_errors
from gptmodel.runtime import graphs
from gptmodel.runtime.bundle import Bundle, read_info
from gptmodel.runtime.timing import Prompts, first_token_seconds, peak_memory_bytes, tokens_per_second

SAMPLING = Sampling(temperature=0.8, top_p=0.95)  # the command line's defaults: sorting the vocabulary is paid for


@dataclass(frozen=True)
class Workload:
    """What is measured: fields as in the `benchmark` section of params.yaml."""

    prompt_tokens: int
    new_tokens: int
    batch_sizes: list[int]
    repeats: int


class _Timed:
    """A decoder that adds up the seconds spent in it: the rest of a run is sampling and bookkeeping."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.context, self.vocab_size = decoder.context, decoder.vocab_size
        self.seconds = 0.0

    def empty_cache(self, pad_B: Ints) -> Any:
        return self._decoder.empty_cache(pad_B)

    def __call__(self, ids_BT: Ints, cache: Any, last: bool = False) -> tuple[Logits, Any]:
        result: tuple[Logits, Any] = self._timed(self._decoder, ids_BT, cache, last)
        return result

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments)
        self.seconds += time.perf_counter() - started
        return result


class _TimedChunks(_Timed):
    """The same for a decoder that chooses the tokens itself: its sampling counts as inside."""

    def __init__(self, decoder: ChunkDecoder) -> None:
        super().__init__(decoder)
        self._chunks, self.chunk = decoder, decoder.chunk

    def decode(self, *arguments: Any) -> Any:
        return self._timed(self._chunks.decode, *arguments)


def measure(bundle: Path, workload: Workload) -> dict[str, Any]:
    """Return the figures of the bundle's fastest graph for this machine, and below `graphs` those of each that runs.

    Each is measured in a fresh process; its exit code is ours if it fails.
    """
    info = read_info(bundle)
    best, place = graphs.choose("auto", info.graphs)
    names = [best, *(name for name in info.graphs if name != best and place in graphs.GRAPHS[name].places)]
    figures = {name: _measure_apart(bundle, workload, name) for name in names}
    kept = ("load_ms", "first_token_latency_ms", "tokens_per_second", "peak_memory_mb", "model_mb")
    return figures[best] | {"graphs": {name: {key: each[key] for key in kept} for name, each in figures.items()}}


def _measure_apart(bundle: Path, workload: Workload, graph: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "gptmodel.runtime.latency", str(bundle), json.dumps(asdict(workload)), graph]
    here = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(command, env=here, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why on standard error
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def measure_here(bundle: Path, workload: Workload, graph: str) -> dict[str, Any]:
    """Return the figures of one graph of a bundle in this process; memory is the most that it ever held."""
    started = time.perf_counter()
    loaded = Bundle.load(bundle, graph=graph)
    load_seconds = time.perf_counter() - started
    decoder = _TimedChunks(loaded.decoder) if isinstance(loaded.decoder, ChunkDecoder) else _Timed(loaded.decoder)
    prompt = np.random.default_rng(0).integers(0, decoder.vocab_size, workload.prompt_tokens).tolist()
    rates, shares = {}, defaultdict[str, list[float]](list)

    def decode(prompts: Prompts, new_tokens: int, tick: Callable[[], None]) -> list[Ints]:
        columns: list[Ints] = []
        rngs = [sample_rng(0, row) for row in range(len(prompts))]
        for ids_B in generate(decoder, prompts, new_tokens, SAMPLING, rngs):
            tick()
            if not columns:
                first, decoder.seconds = time.perf_counter(), 0.0  # the prompt does not count
            columns.append(ids_B)
        if new_tokens > 1:
            shares[f"batch_{len(prompts)}"].append(1 - decoder.seconds / (time.perf_counter() - first))
        return list(np.stack(columns, axis=1))

    first_seconds = first_token_seconds(decode, prompt, workload.repeats)
    for size in workload.batch_sizes:
        rates[f"batch_{size}"] = tokens_per_second(
            decode, [prompt] * size, workload.new_tokens, workload.repeats, warm_up=workload.new_tokens
        )
    return {
        "graph": graph,
        "load_ms": 1000 * load_seconds,
        "first_token_latency_ms": 1000 * first_seconds,
        "tokens_per_second": rates,
        "host_share": {batch: statistics.median(runs[1:]) for batch, runs in shares.items()},
        "peak_memory_mb": peak_memory_bytes() / 1e6,
        "parameters": loaded.info.parameters,
        "model_mb": (bundle / graphs.GRAPHS[graph].file).stat().st_size / 1e6,
        "workload": asdict(workload) | {"sampling": asdict(SAMPLING)},
        "machine": _machine() | {"device": loaded.place, "threads": loaded.threads},
    }


def _machine() -> dict[str, Any]:
    import onnxruntime

    names = [platform.processor() or platform.machine()]
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
    return {
        "processor": names[0],
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    with one_line_errors():
        print(json.dumps(measure_here(Path(sys.argv[1]), Workload(**json.loads(sys.argv[2])), sys.argv[3])))
