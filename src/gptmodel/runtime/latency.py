"""How fast and how large a bundle is on this machine: load time, first token, tokens per second, memory.

Each graph runs in a fresh process, so that memory and load time are those of the runtime alone (numpy, tokenizers and
ONNX Runtime), not of the stage that asks. Every figure is the median of several runs after a warm-up that does not
count.

    python -m gptmodel.runtime.latency BUNDLE SETTINGS GRAPH    write benchmark.json of one graph to stdout

SETTINGS is the section `benchmark` of params.yaml as JSON.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gptmodel import params
from gptmodel.arrays import Ints
from gptmodel.decoding import defaults
from gptmodel.decoding.engine import Batch, Decoder, DecoderSlots, TokenSequence
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.errors import one_line_errors
from gptmodel.machine import processor
from gptmodel.results.bundle import Benchmark, GraphSpeed, Machine, Sampled, Workload
from gptmodel.runtime import bundle, graphs, session
from gptmodel.runtime.bundle import Bundle
from gptmodel.runtime.timing import Prompts, first_token_seconds, peak_memory_bytes, tokens_per_second

SAMPLING = Sampling(defaults.TEMPERATURE, defaults.TOP_K, defaults.TOP_P, defaults.REPETITION_PENALTY)


def measure(folder: Path, settings: params.Benchmark) -> Benchmark:
    """Return the figures of the bundle's fastest graph for this machine, and below `graphs` those of each that runs.

    Each is measured in a fresh process; the exit code of one that fails is passed on.
    """
    info = bundle.read_info(folder)
    best, device = graphs.choose("auto", info.graphs)
    others = [name for name in info.graphs if name != best.name and device in graphs.GRAPHS[name].devices]
    figures = {name: _measure_apart(folder, settings, name) for name in (best.name, *others)}
    own = set(GraphSpeed.model_fields)
    speeds = {name: GraphSpeed.model_validate(found.model_dump(include=own)) for name, found in figures.items()}
    return figures[best.name].model_copy(update={"graphs": speeds})


def _measure_apart(folder: Path, settings: params.Benchmark, graph: str) -> Benchmark:
    command = [sys.executable, "-m", "gptmodel.runtime.latency", str(folder), settings.model_dump_json(), graph]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why on standard error
    return Benchmark.model_validate_json(done.stdout)


def measure_here(folder: Path, settings: params.Benchmark, graph: str) -> Benchmark:
    """Return the figures of one graph of a bundle in this process; memory is the most that it ever held."""
    started = time.perf_counter()
    loaded = Bundle.load(folder, graph=graph)
    load_seconds = time.perf_counter() - started
    run = _Run(loaded.decoder)
    prompt = np.random.default_rng(0).integers(0, loaded.decoder.vocab_size, settings.prompt_tokens).tolist()
    first_seconds = first_token_seconds(run, prompt, settings.repeats)
    count = settings.new_tokens
    rates = {
        f"batch_{size}": tokens_per_second(run, [prompt] * size, count, settings.repeats, warm_up=count)
        for size in settings.batch_sizes
    }
    return Benchmark(
        load_ms=1000 * load_seconds,
        first_token_latency_ms=1000 * first_seconds,
        tokens_per_second=rates,
        peak_memory_mb=peak_memory_bytes() / 1e6,
        model_mb=(folder / graphs.GRAPHS[graph].file).stat().st_size / 1e6,
        graph=graph,
        host_share={f"batch_{size}": statistics.median(run.host_shares[size][1:]) for size in settings.batch_sizes},
        parameters=loaded.info.parameters,
        workload=Workload(**settings.model_dump(), sampling=Sampled(**asdict(SAMPLING))),
        machine=_machine(loaded),
        graphs={},
    )


class _Run:
    """Decodes prompts as `timing.Decode`, and notes by batch size which share of each run the decoder did not take."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.host_shares: dict[int, list[float]] = defaultdict(list)

    def __call__(self, prompts: Prompts, new_tokens: int, tick: Callable[[], None]) -> list[Ints]:
        batch = Batch[TokenSequence](DecoderSlots(self._decoder, len(prompts)))
        for number, prompt in enumerate(prompts):
            batch.join(TokenSequence(prompt, self._decoder.vocab_size, SAMPLING, sample_rng(0, number)))
        steps = batch.steps(new_tokens)
        columns = [next(steps)]
        tick()
        first = time.perf_counter()
        prompt_seconds = batch.decoder_seconds
        for ids_B in steps:
            tick()
            columns.append(ids_B)
        if new_tokens > 1:
            in_decoder = (batch.decoder_seconds - prompt_seconds) / (time.perf_counter() - first)
            self.host_shares[len(prompts)].append(1 - in_decoder)
        return list(np.stack(columns, axis=1))


def _machine(loaded: Bundle) -> Machine:
    return Machine(
        processor=processor().name,
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=session.onnxruntime().__version__,
        numpy=np.__version__,
        device=loaded.device,
        threads=loaded.threads,
    )


if __name__ == "__main__":
    with one_line_errors():
        asked = params.Benchmark.model_validate_json(sys.argv[2])
        sys.stdout.write(measure_here(Path(sys.argv[1]), asked, sys.argv[3]).model_dump_json())
