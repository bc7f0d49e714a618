"""Time to a validation loss of 1.88 nats per character on tinyshakespeare: our recipes against nanoGPT's CPU one.

Run by `python benchmarks/train.py --race`. All are trained by our loop, one after the other, on the same text. The
clock runs from the choice of the numerics (which probes the machine) through building the network, torch.compile with
an empty cache and every training step; it stands still during evaluations. Each is timed to its first evaluation at or
below the target: 1.88, the figure that nanoGPT's README gives, or what the nanogpt-cpu recipe ends at in this run if
that is higher. The result goes to benchmarks/results/train-race.json.
"""

import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from environment import RESULTS, environment, processor
from scratch import Project, recipe, trainer

from gptmodel import files
from gptmodel.model import devices
from gptmodel.progress import say
from gptmodel.training import precision

PACE, OURS = "nanogpt-cpu", ("tinyshakespeare-sprint", "tinyshakespeare-cpu")
PUBLISHED = 1.88
EVALUATE_EVERY = 20  # steps


@dataclass(frozen=True)
class Point:
    """Where a training stands: seconds on its clock, and its loss per validation token."""

    step: int
    tokens: int
    seconds: float
    nats_per_token: float


def course(root: Path, seed: int, target: float) -> list[Point]:
    """Train the one model of the project in `root` until it reaches the target; return its evaluations."""
    project = Project.read(root)
    [config] = project.settings.models.values()
    config = config.model_copy(update={"evaluate_every": EVALUATE_EVERY})
    data = project.dataset(config.tokenizer)
    started = time.perf_counter()
    chosen, _ = precision.choose(project.settings.engine, devices.pick(project.settings.device), say)
    training = trainer(config, data.ids, data.tokenizer.vocab_size, seed, chosen)
    seconds, points = time.perf_counter() - started, list[Point]()
    for evaluation in training.run():
        if points:
            seconds += (evaluation.tokens - points[-1].tokens) / evaluation.tokens_per_second
        nats = evaluation.validation_nats / len(data.ids["validation"])
        points.append(Point(evaluation.step, evaluation.tokens, seconds, nats))
        if nats <= target:
            break
    return points


def cold(root: Path, seed: int, target: float = 0.0) -> list[Point]:
    """Return the `course` in a process of its own, for which torch.compile has nothing ready."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": cache, "GOMP_SPINCOUNT": "10000"}  # as in pipelines/__init__.py
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(course, root, seed, target).result()


def race(roots: dict[str, Path], seed: int) -> dict[str, Any]:
    """Return one row: target, where each reached it, and how many times sooner ours did."""
    pace = cold(roots[PACE], seed)
    target = max(PUBLISHED, pace[-1].nats_per_token)
    slow = next((point for point in pace if point.nats_per_token <= target), None)
    reached = {PACE: slow}
    for name in OURS:
        last = cold(roots[name], seed, target)[-1]
        reached[name] = last if last.nats_per_token <= target else None
    return {
        "seed": seed,
        "target_nats_per_token": target,
        "pace_ends_at": asdict(pace[-1]),
        "reached": {name: asdict(point) if point else None for name, point in reached.items()},
        "times_sooner": {
            name: slow.seconds / point.seconds for name, point in reached.items() if slow and point and name != PACE
        },
    }


def run(seeds: list[int]) -> None:
    """Race once per seed, print and record."""
    busy, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder:
        roots = {name: Path(folder) / name for name in (PACE, *OURS)}
        for name, root in roots.items():
            Project.make(root, recipe(name)[1]).prepare()
        for seed in seeds:
            rows.append(race(roots, seed))
            told = ", ".join(
                f"{name} {point['seconds']:.1f} s" if point else f"{name} never"
                for name, point in rows[-1]["reached"].items()
            )
            print(f"seed {seed}: to {rows[-1]['target_nats_per_token']:.4f} nats per character: {told}", flush=True)
    result = {
        "published_nats_per_token": PUBLISHED,
        "evaluate_every": EVALUATE_EVERY,
        "load_before": round(busy, 2),
        "races": rows,
        **environment("torch", "numpy", **processor(), torch_threads=torch.get_num_threads()),
    }
    files.write_json(RESULTS / "train-race.json", result)
