"""Decoding of small language models: our ONNX files and every runtime a user would pick, same weights, same run.

    python benchmarks/decode.py [--size 10m 85m] [--batch 1 8 64] [--device cpu|cuda] [--peers NAME ...]
                                [--rounds N] [--threads 1 2]

The weights are random (`peers/weights.py`), the workload is `peers/workload.py`, each peer a script in peers/ that runs
in a fresh process, and in an environment of its own with pinned versions (`peers/environments.py`). A round runs every
system once, one after the other, so that whatever else the machine does falls on all; medians over the rounds are
reported, and how near they come to the physical limit: all weights and the cache's keys and values read once per
token at the memory's speed (`roofline.py`). A system that cannot run is recorded with the reason. The greedy tokens of
the fp32 systems are compared with PyTorch's. Each size goes to benchmarks/results/decode-DEVICE-SIZE.json, and all
that are there to the figure decode-DEVICE.png.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import roofline
import torch
from environment import RESULTS, ROOT, environment, processor
from peers import environments, weights
from peers.environments import PEERS, Missing
from peers.workload import Job

from gptmodel import files

MEASURE_SECONDS = 1800  # of one process
BFLOAT16 = {"avx512_bf16", "amx_bf16"}
CACHE_BYTES = {"fast-int8": 1, "fp16": 2, "bf16": 2, "fast-fp16": 2}  # of a key or value, where not 4
OURS, THEIRS = "#0b6e4f", "#9aa5b1"
Figures = dict[str, Any]  # what a peer script prints


class System(NamedTuple):
    """What one process measures."""

    size: str
    threads: int
    peer: str
    mode: str

    @property
    def name(self) -> str:
        """The peer's title and the mode."""
        return f"{PEERS[self.peer].title} {self.mode}"

    def __str__(self) -> str:
        return f"{self.size} {in_words(self.threads)} {self.name}"


def in_words(number: int) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{number} thread{'s' * (number > 1)}"


def measure(system: System, folder: Path, device: str, batches: list[int]) -> Figures:
    """Return the figures of a fresh process; `Missing` where it has none."""
    if system.mode == "bf16" and device == "cpu" and BFLOAT16.isdisjoint(processor().get("cpu_flags", ())):
        raise Missing("this CPU has no bfloat16 instructions")
    job = Job(system.mode, device, system.threads, batches, weights.VOCAB_SIZE, weights.CONTEXT)
    python, script = environments.interpreter(system.peer, device), environments.HERE / f"{system.peer}.py"
    if isinstance(python, Missing):
        raise python
    printed = environments.run(
        [str(python), str(script), str(folder), json.dumps(vars(job))],
        MEASURE_SECONDS,
        OMP_NUM_THREADS=str(system.threads),
        HF_HUB_OFFLINE="1",
        PYTHONPATH=str(ROOT / "src"),
    )
    figures: Figures = json.loads(printed.splitlines()[-1])
    return figures


def rounds(
    systems: list[System], folders: dict[str, Path], asked: argparse.Namespace
) -> Iterator[tuple[System, Figures | Missing]]:
    """Yield what each system measured, round by round, and tell it; what cannot run is not tried again."""
    missing = set[System]()
    for number in range(1, asked.rounds + 1):
        for system in systems:
            if system in missing:
                continue
            try:
                outcome: Figures | Missing = measure(system, folders[system.size], asked.device, asked.batch)
            except Missing as reason:
                missing.add(system)
                outcome = reason
            print(f"{number}  {system!s:44}{told(outcome)}", flush=True)
            yield system, outcome


def told(outcome: Figures | Missing) -> str:
    """Return one line of what was measured."""
    if isinstance(outcome, Missing):
        return f"cannot run: {outcome}"
    rates = "".join(f"{rate:10,.0f}" for rate in outcome["tokens_per_second"].values())
    return f"{rates} tokens/s {outcome['first_token_ms']:8.1f} ms to the first {outcome['peak_memory_mb']:7,.0f} MB"


def summary(runs: list[Figures]) -> Figures:
    """Return the medians over the rounds; of the rates also the least and the most."""
    rates = {batch: [each["tokens_per_second"][batch] for each in runs] for batch in runs[0]["tokens_per_second"]}
    return {
        "tokens_per_second": {batch: statistics.median(values) for batch, values in rates.items()},
        "least_and_most": {batch: [min(values), max(values)] for batch, values in rates.items()},
        **{key: statistics.median(each[key] for each in runs) for key in ("first_token_ms", "peak_memory_mb")},
        **{key: runs[0][key] for key in ("weights_mb", "versions", "greedy_tokens")},
    }


def agreement(tokens: list[int], reference: list[int]) -> str:
    """Say whether two rows of greedy tokens are equal, and where not.

    >>> agreement([4, 5, 6], [4, 5, 7])
    'differs at token 3'
    """
    differing = [place for place, pair in enumerate(zip(tokens, reference, strict=True), 1) if len(set(pair)) > 1]
    return f"differs at token {differing[0]}" if differing else "equal"


@cache
def bandwidth(megabytes: int, threads: int, device: str) -> float:
    """Return GB/s of reading so many MB again and again."""
    return roofline.read_gb_per_s(megabytes * 1_000_000, threads, device)


def cache_mb(row: Figures) -> float:
    """Return the keys and values that a new token reads in the middle of a run (bytes a number: see `CACHE_BYTES`)."""
    n_layer, _, n_embd, _ = weights.SIZES[row["size"]]
    width = CACHE_BYTES.get(row["mode"], 4)
    return 2 * n_layer * n_embd * width * (Job.prompt_tokens + Job.new_tokens / 2) / 1e6


def limits(row: Figures, device: str) -> Figures:
    """Return what batch 1 reads per second (weights and cache), as a share of two bandwidths (see `roofline`)."""
    if "batch_1" not in row["tokens_per_second"]:
        return {}
    gb_per_s = row["tokens_per_second"]["batch_1"] * (row["weights_mb"] + cache_mb(row)) / 1000
    sizes = {"memory": roofline.far_bytes() // 1_000_000, "model_size": max(1, round(row["weights_mb"]))}
    measured = {kind: bandwidth(size, row["threads"], device) for kind, size in sizes.items()}
    return {
        "read_gb_per_s": gb_per_s,
        "bandwidth_gb_per_s": measured,
        "share_of_bandwidth": {kind: gb_per_s / rate for kind, rate in measured.items()},
    }


def rows(measured: dict[System, list[Figures]], device: str) -> list[Figures]:
    """Return one row per system, fastest first within a size and a number of threads."""
    found = []
    for system, runs in measured.items():
        row = {"name": system.name, **system._asdict(), **summary(runs)}
        reference = measured.get(system._replace(peer="torch_eager", mode="fp32"))
        tokens = row.pop("greedy_tokens")
        if system.mode.endswith("fp32") and reference:
            row["greedy_tokens_and_torch"] = agreement(tokens, reference[0]["greedy_tokens"])
        found.append(row | limits(row, device))
    return sorted(found, key=lambda row: (row["size"], row["threads"], -next(iter(row["tokens_per_second"].values()))))


def draw(sizes: list[list[Figures]], path: Path) -> None:
    """Draw tokens per second of the first batch size, one panel per size, systems at their best number of threads."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(sizes), figsize=(6.5 * len(sizes), 5), layout="constrained", squeeze=False)
    for panel, found in zip(panels[0], sizes, strict=True):
        batch = next(iter(found[0]["tokens_per_second"]))
        best = dict[str, tuple[float, int]]()
        for row in found:
            rate, now = row["tokens_per_second"][batch], best.get(row["name"], (0.0, 0))
            best[row["name"]] = max(now, (rate, row["threads"]))
        ordered = sorted(best, key=best.__getitem__)
        bars = panel.barh(
            ordered,
            [best[name][0] for name in ordered],
            color=[OURS if name.startswith("ours") else THEIRS for name in ordered],
        )
        labels = [f"{best[name][0]:,.0f}  ({in_words(best[name][1])})" for name in ordered]
        panel.bar_label(bars, labels, padding=4, fontsize=9)
        panel.set_title(f"{found[0]['size']} parameters, {batch.replace('_', ' ')}", loc="left")
        panel.set_xlabel("tokens per second")
        panel.margins(x=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=weights.SIZES, default=list(weights.SIZES))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 and all on a CPU, 1 on CUDA")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no NVIDIA GPU: use cpu")
    asked.threads = asked.threads or ([1] if asked.device == "cuda" else sorted({1, os.cpu_count() or 1}))
    return asked


def main() -> None:
    """Measure, print and record."""
    asked, busy = arguments(), os.getloadavg()[0]
    systems = [
        System(size, threads, peer, mode)
        for size in asked.size
        for threads in asked.threads
        for peer in asked.peers
        for mode in PEERS[peer].modes[asked.device]
    ]
    for peer in asked.peers:
        environments.interpreter(peer, asked.device)  # before anything is timed
    measured, missing = dict[System, list[Figures]](), list[Figures]()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {size: Path(scratch) / size for size in asked.size}
        parameters = {size: weights.write(folder, size) for size, folder in folders.items()}
        for system, outcome in rounds(systems, folders, asked):
            if isinstance(outcome, Missing):
                missing.append({"name": system.name, **system._asdict(), "reason": str(outcome)})
            else:
                measured.setdefault(system, []).append(outcome)
    workload = {each.name: each.default for each in fields(Job) if isinstance(each.default, int | float)}
    conditions = {**workload, "rounds": asked.rounds, "load_before": round(busy, 2), "sampling": "greedy"}
    versions = ("torch", "onnxruntime", "onnxruntime-gpu", "numpy")
    gpu = torch.cuda.get_device_name() if asked.device == "cuda" else None
    found = rows(measured, asked.device)
    for size in asked.size:
        record = {
            "rows": [row for row in found if row["size"] == size],
            "missing": [each for each in missing if each["size"] == size],
            "parameters": parameters[size],
            "conditions": conditions,
            **environment(*versions, **processor(), gpu=gpu),
        }
        files.write_json(asked.results / f"decode-{asked.device}-{size}.json", record)
    records = [asked.results / f"decode-{asked.device}-{size}.json" for size in weights.SIZES]
    kept = [json.loads(path.read_text(encoding="utf-8"))["rows"] for path in records if path.exists()]
    if drawn := [each for each in kept if each]:
        draw(drawn, asked.results / f"decode-{asked.device}.png")


if __name__ == "__main__":
    main()
