"""What each ingredient of the modern model brings: each one taken away alone, several seeds.

    python benchmarks/ablation.py [--steps 500] [--seeds 3] [--jobs 2] [--recipe NAME]

The model is the recipe's first that Muon trains; the default is the default run's gpt-char, on the default text.

Trained on the first nine tenths of the training split, scored on its last tenth: the validation split is never read.
So the recipe's values can be chosen here. Schedules are those of the recipe, stretched to --steps. AdamW gets three
learning rates, since the recipe's is for Muon's partner only. Jobs run side by side, each with its share of the cores.
A run takes minutes: each is recorded when it ends, and what is recorded is not run again, unless its parameters, data
or numerics changed. The result goes to benchmarks/results/ablation-CORPUS.json.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import RESULTS, environment, processor
from scratch import Project, changed, recipe, trainer

from gptmodel import files
from gptmodel.arrays import Ids
from gptmodel.errors import UserError, one_line_errors
from gptmodel.model import devices, networks
from gptmodel.params import GPTModel
from gptmodel.progress import say
from gptmodel.results.corpus import SplitName
from gptmodel.training import precision
from gptmodel.training.precision import Numerics

FULL = "the full recipe"
HELD_OUT = 0.1  # of the training split, its end
ADAMW_RATES = (1e-3, 2e-3, 4e-3)  # nanoGPT's for this text, and more
ADAMW_DECAY, ADAMW_BETA2 = 0.1, 0.99  # nanoGPT's

Changes = dict[str, Any]
Run = dict[str, Any]


def rows(base: GPTModel) -> dict[str, Changes]:
    """Return what changes by row of the table; an ingredient that the recipe lacks has no row."""
    table: dict[str, Changes] = {FULL: {}}
    if base.muon_learning_rate:
        adamw = {"muon_learning_rate": 0.0, "weight_decay": ADAMW_DECAY, "beta2": ADAMW_BETA2}
        table |= {f"AdamW for Muon, rate {rate:g}": {**adamw, "learning_rate": rate} for rate in ADAMW_RATES}
    table["random windows for shuffled epochs"] = {"windows": "random"}
    table["a cosine over all steps for the linear warm-down"] = {"schedule": "cosine", "warmdown": 1.0}
    table["GPT-2's first weights for zero projections"] = {"init": "gpt2"}
    table["no QK-norm"] = {"qk_norm": False}
    table["learned positions for rotary"] = {"positions": "learned"}
    if base.mlp == "swiglu":  # three matrices of that width, GELU has two
        table["GELU for SwiGLU, same size"] = {"mlp": "gelu", "n_hidden": base.n_hidden * 3 // 2}
    table["LayerNorm for RMSNorm"] = {"norm": "layernorm"}
    half = {"context": base.context // 2, "batch_size": base.batch_size * 2}
    table[f"context {half['context']} for {base.context}, same tokens per step"] = half
    if base.dropout:
        table["no dropout"] = {"dropout": 0.0}
    else:
        table["dropout 0.1"] = {"dropout": 0.1}
    return {
        name: changes
        for name, changes in table.items()
        if name == FULL or any(getattr(base, key) != value for key, value in changes.items())
    }


@dataclass(frozen=True)
class Task:
    """One training to be done, in whatever process."""

    row: str
    seed: int
    config: GPTModel
    numerics: Numerics
    train: Ids
    held_out: Ids
    vocab_size: int

    @property
    def key(self) -> str:
        """Digits that change when anything that decides the result changes, code aside."""
        data = [hashlib.sha256(ids.tobytes()).hexdigest() for ids in (self.train, self.held_out)]
        config, how = self.config.model_dump(mode="json"), self.numerics.as_dict()
        values = {"config": config, "seed": self.seed, "numerics": how, "data": data}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def run(self) -> Run:
        """Train, and score the held-out part once, at the end."""
        splits: dict[SplitName, Ids] = {"train": self.train, "validation": self.held_out}
        training = trainer(self.config, splits, self.vocab_size, self.seed, self.numerics)
        started = time.perf_counter()
        *_, last = training.run()
        return {
            "key": self.key,
            "row": self.row,
            "seed": self.seed,
            "nats_per_token": last.validation_nats / len(self.held_out),
            "train_nats_per_token": last.train_loss_nats,
            "parameters": networks.count_parameters(training.network),
            "tokens": last.tokens,
            "tokens_per_second": round(last.tokens_per_second),
            "seconds": round(time.perf_counter() - started, 1),
        }


def tasks(project: Project, steps: int, seeds: int, jobs: int) -> tuple[list[Task], Changes]:
    """Return every training of the table, seed by seed, and what all of them share, for the record."""
    modern = [one for one in project.settings.models.values() if isinstance(one, GPTModel) and one.muon_learning_rate]
    if not modern:
        raise UserError("the recipe has no model that Muon trains: there are no ingredients to take away")
    base = modern[0]
    if steps <= base.warmup_steps:
        raise UserError(f"--steps {steps}: give more than the warm-up of {base.warmup_steps}")
    data = project.dataset(base.tokenizer)
    ids = np.asarray(data.ids["train"])
    cut = int(len(ids) * (1 - HELD_OUT))
    chosen, _ = precision.choose(project.settings.engine, devices.pick("cpu"), say)
    how = Numerics("cpu", chosen.precision, chosen.execution, max(1, torch.get_num_threads() // jobs))
    base = base.model_copy(update={"steps": steps, "evaluate_every": steps})
    every = [
        Task(row, seed, base.model_copy(update=changes), how, ids[:cut], ids[cut:], data.tokenizer.vocab_size)
        for seed in range(1, seeds + 1)
        for row, changes in rows(base).items()
    ]
    shared = {
        "steps": steps,
        "tokens_per_step": base.batch_size * base.context,
        "characters": {"train": cut, "held_out": len(ids) - cut},
        "held_out": f"the last {HELD_OUT:.0%} of the training split",
        "jobs": jobs,
        "numerics": how.as_dict(),
        "parameters": base.model_dump(mode="json"),
        "changes": rows(base),
    }
    return every, shared


def table(runs: list[Run]) -> list[dict[str, Any]]:
    """Return mean, sample standard deviation and difference to the full recipe, by row; the full recipe first."""
    by_row: dict[str, list[Run]] = {}
    for run in runs:
        by_row.setdefault(run["row"], []).append(run)
    means = {row: statistics.mean(run["nats_per_token"] for run in same) for row, same in by_row.items()}
    return [
        {
            "row": row,
            "seeds": len(same),
            "parameters": same[0]["parameters"],
            "nats_per_token": means[row],
            "sd": statistics.stdev(run["nats_per_token"] for run in same) if len(same) > 1 else None,
            "difference": means[row] - means[FULL],
            "tokens_per_second": round(statistics.mean(run["tokens_per_second"] for run in same)),
        }
        for row, same in sorted(by_row.items(), key=lambda item: item[0] != FULL)
    ]


def record(path: Path, every: list[Task], runs: Mapping[str, Run], shared: Changes) -> None:
    """Write the runs there are, in the table's order; nothing before the full recipe has one."""
    kept = [runs[task.key] for task in every if task.key in runs]
    if FULL not in {run["row"] for run in kept}:
        return
    conditions = environment("torch", "numpy", **processor())
    files.write_json(path, {"rows": table(kept), **shared, "runs": kept, **conditions})


def recorded(path: Path) -> dict[str, Run]:
    """Return the runs of an earlier call, by key."""
    if not path.exists():
        return {}
    return {run["key"]: run for run in json.loads(path.read_text(encoding="utf-8"))["runs"]}


def finished(waiting: list[Task], jobs: int) -> Iterator[Run]:
    """Run tasks side by side, each in a process of its own; yield what each found when it is done."""
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as processes:
        for future in as_completed([processes.submit(task.run) for task in waiting]):
            yield future.result()


def main() -> None:
    """Measure what is missing, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--recipe", default="hugo")
    arguments.add_argument("--steps", type=int, default=500)
    arguments.add_argument("--seeds", type=int, default=3, help="how many: 1, 2, 3...")
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--execution", choices=["eager", "compile"], default="eager", help="eager starts at once")
    asked = arguments.parse_args()
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        values = changed(recipe(asked.recipe)[1], [f"engine.execution={asked.execution}"])
        project = Project.make(Path(folder), values)
        project.prepare()
        every, shared = tasks(project, asked.steps, asked.seeds, asked.jobs)
        path = RESULTS / f"ablation-{project.settings.corpus.path}.json"
        runs = recorded(path)
        waiting = [task for task in every if task.key not in runs]
        print(f"{len(every) - len(waiting)} of {len(every)} runs are recorded already")
        for number, run in enumerate(finished(waiting, asked.jobs), 1):
            runs[run["key"]] = run
            record(path, every, runs, shared)
            what = f"{run['row']}, seed {run['seed']}: {run['nats_per_token']:.4f} nats per token"
            print(f"{number}/{len(waiting)} {what}, {run['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
