"""How many threads, and how they wait: training, evaluation, generation and encoding, alone and beside a busy core.

    python benchmarks/threads.py [--rounds 3] [--train gpt-char] [--evaluate gpt-word]

Every setting runs in a process of its own, one after the other, round after round, with and without another program
that keeps one core busy (`while True: pass`); medians of the seconds count, without imports. It needs the outputs of
`make repro`; about four minutes on two cores. The result goes to benchmarks/results/threads.json.

How the threads of torch wait: `briefly` is what pipelines/__init__.py sets, `asleep` OMP_WAIT_POLICY=passive, `awake`
OMP_WAIT_POLICY=active. `digits` are those of the trained weights: settings with equal digits give the same bytes.
"""

import argparse
import hashlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from environment import RESULTS, ROOT, environment, processor

import gptmodel
from gptmodel import files, layout, params
from gptmodel.data.corpus import read_splits
from gptmodel.data.dataset import Dataset
from gptmodel.data.encoding import encode_split
from gptmodel.data.fitting import fit

sys.path.insert(0, str(ROOT))
importlib.import_module("pipelines")  # sets how threads wait, before torch is imported

WARM_UP, STEPS = 5, 20
WAITING = {"briefly": {}, "asleep": {"OMP_WAIT_POLICY": "passive"}, "awake": {"OMP_WAIT_POLICY": "active"}}
BUSY = "while True: pass"
CHARACTERS = 2_500_000  # to encode
LONG, SHORT, ROWS = 3000, 400, 32  # tokens of one text, and of each of several


class Setting(NamedTuple):
    """What a process is told, and which tasks it does."""

    threads: int
    waiting: str
    tasks: tuple[str, ...]

    @property
    def variables(self) -> dict[str, str]:
        """Its environment."""
        number = str(self.threads)
        return {"OMP_NUM_THREADS": number, "RAYON_NUM_THREADS": number, **WAITING[self.waiting]}


def settings(cores: int) -> list[Setting]:
    """Return one thread, all cores but one, all cores; and all cores that wait otherwise."""
    numbers = sorted({1, max(1, cores - 1), cores})
    plain = [Setting(number, "briefly", ("train", "evaluate", "generate", "batch", "encode")) for number in numbers]
    return [*plain, *(Setting(cores, waiting, ("train", "evaluate")) for waiting in ("asleep", "awake"))]


class Stopwatch:
    """Sees when each step of a training ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def stepped(self, trainer: object, note: str) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())

    def waiting(self, trainer: object) -> None:
        """Nobody asks to stop."""


def train(name: str, threads: int) -> dict[str, Any]:
    """Return the seconds of some steps, and the digits of the weights after them."""
    import torch
    from scratch import trainer

    from gptmodel.model import networks
    from gptmodel.training import precision

    known = params.load(layout.PARAMS)
    model = known.model(name).model_copy(update={"steps": WARM_UP + STEPS, "evaluate_every": WARM_UP + STEPS})
    data = Dataset.read(layout.TOKENS / model.tokenizer)
    numerics, _ = precision.choose(known.engine, torch.device("cpu"), lambda line: None)
    training = trainer(model, data.ids, data.tokenizer.vocab_size, known.seed, numerics)
    watch = Stopwatch()
    for _ in training.run(watch):
        pass
    digest = hashlib.sha256(
        b"".join(tensor.numpy().tobytes() for tensor in networks.weights(training.network).values())
    )
    return {"seconds": watch.ends[-1] - watch.ends[WARM_UP - 1], "digits": digest.hexdigest()[:8]}


def evaluate(name: str, threads: int) -> dict[str, Any]:
    """Return the seconds of all scores of a model."""
    import torch

    from gptmodel.evaluation import scores
    from gptmodel.model import checkpoint

    network, meta = checkpoint.load(layout.ModelFolder(name).checkpoint)
    data, texts = Dataset.read(layout.TOKENS / meta.level), read_splits(layout.TEXT)
    rate = params.load(layout.PARAMS).evaluation.dynamic_rate
    return timed(lambda: scores.score(network, data, texts, torch.device("cpu"), rate, meta))


def generate(name: str, threads: int) -> dict[str, Any]:
    """Return the seconds of one text."""
    model = gptmodel.load(layout.ModelFolder(name).bundle, "cpu", threads)
    model.generate("Il était ", max_new_tokens=SHORT)
    return timed(lambda: model.generate("Il était ", max_new_tokens=LONG, seed=1))


def batch(name: str, threads: int) -> dict[str, Any]:
    """Return the seconds of several texts at once."""
    model = gptmodel.load(layout.ModelFolder(name).bundle, "cpu", threads)
    model.generate("Il était ", max_new_tokens=SHORT)
    return timed(lambda: model.generate("Il était ", max_new_tokens=SHORT, seed=1, num_samples=ROWS))


def encode(name: str, threads: int) -> dict[str, Any]:
    """Return the seconds of fitting and applying byte pairs."""
    text, tokenizers = read_splits(layout.TEXT)["train"], params.load(layout.PARAMS).tokenizers
    text *= CHARACTERS // len(text) + 1
    return timed(lambda: encode_split(fit("bpe", text, tokenizers), text, "benchmark"))


def timed(work: Callable[[], object]) -> dict[str, Any]:
    """Return the seconds that it takes."""
    started = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - started}


TASKS = {"train": train, "evaluate": evaluate, "generate": generate, "batch": batch, "encode": encode}


@contextmanager
def company(busy: bool) -> Iterator[None]:
    """Keep one core busy meanwhile, or nothing."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def run(setting: Setting, models: dict[str, str], busy: bool) -> dict[str, dict[str, Any]]:
    """Return what each task of a setting took, in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    asked = json.dumps({"threads": setting.threads, "tasks": {task: models[task] for task in setting.tasks}})
    with company(busy), tempfile.TemporaryFile() as log:
        command = [sys.executable, __file__, "--child", asked]
        done = subprocess.run(
            command, cwd=ROOT, env=inherited | setting.variables, stdout=subprocess.PIPE, stderr=log, check=False
        )
        if done.returncode:
            log.seek(0)
            raise SystemExit(log.read().decode())
    result: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return result


def measure(rounds: int, models: dict[str, str]) -> list[dict[str, Any]]:
    """Return a row for each task, setting and company."""
    rows: dict[tuple[str, Setting, bool], dict[str, Any]] = {}
    for _ in range(rounds):
        for busy in (False, True):
            for setting in settings(os.cpu_count() or 1):
                for task, found in run(setting, models, busy).items():
                    told = {
                        "task": task,
                        "threads": setting.threads,
                        "waiting": setting.waiting,
                        "busy_cores": int(busy),
                    }
                    row = rows.setdefault((task, setting, busy), told | {"all_seconds": []})
                    row["all_seconds"].append(round(found.pop("seconds"), 3))
                    row |= found
    for row in rows.values():
        row["seconds"] = statistics.median(row["all_seconds"])
    return sorted(rows.values(), key=lambda row: (list(TASKS).index(row["task"]), row["busy_cores"]))


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", default="gpt-char", help="the model that is trained, and that generates")
    parser.add_argument("--evaluate", default="gpt-word", help="the model that is scored")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        told = json.loads(asked.child)
        print(json.dumps({task: TASKS[task](model, told["threads"]) for task, model in told["tasks"].items()}))
        return
    load = os.getloadavg()[0]
    models = dict.fromkeys(TASKS, asked.train) | {"evaluate": asked.evaluate}
    rows = measure(asked.rounds, models)
    for row in rows:
        company = "beside a busy core" if row["busy_cores"] else "alone"
        print(f"{row['task']:9} {company:18} {row['threads']} threads, {row['waiting']:8} {row['seconds']:8.2f} s")
    result = {
        "rounds": asked.rounds,
        "models": models,
        "steps": STEPS,
        "load_before": round(load, 2),
        "rows": rows,
        **environment("torch", "onnxruntime", "tokenizers", "numpy", **processor()),
    }
    files.write_json(Path(RESULTS) / "threads.json", result)


if __name__ == "__main__":
    main()
