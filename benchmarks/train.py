"""How good a recipe's models become, and in which time: the real stage, once per seed.

    python benchmarks/train.py RECIPE [--seeds 1 2 3] [--set KEY=VALUE ... --name NAME]
    python benchmarks/train.py --race [--seeds 1 2 3]

RECIPE is recipes/RECIPE.yaml, or the path of a file like params.yaml. In a scratch copy of the project every model of
the recipe is trained by `python -m pipelines.train`, as DVC would run it. Wall time goes from the start of that process
to its exit: imports, probe of the machine, torch.compile with an empty cache, evaluations, samples and saving included.
Beside it stands what counting scores on the same text (Kneser-Ney, orders 2 to 8). Validation losses are of the whole
validation text; the final one is the headline, because the best of many evaluations is chosen on that very text.
The result goes to benchmarks/results/train-RECIPE.json, that of a changed recipe (--set) to train-NAME.json.

--race: the time to a validation loss of 1.88, tinyshakespeare-cpu against nanogpt-cpu (see race.py).
"""

import argparse
import os
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import race
import torch
from counting import score_baselines
from environment import RESULTS, environment, processor
from scratch import Project, Values, changed, recipe

from gptmodel import files, layout
from gptmodel.data.corpus import read_splits
from gptmodel.errors import UserError, one_line_errors
from gptmodel.evaluation import scores
from gptmodel.model import checkpoint, devices
from gptmodel.results.evaluation import SCORED
from gptmodel.results.training import Point, Speed, read_history

ORDERS = range(2, 9)
PACKAGES = ("torch", "numpy", "tokenizers", "safetensors")
AVERAGED = {  # what the summary averages over the seeds: name -> where it stands in a row
    "final_nats_per_token": ("final", "nats_per_token"),
    "final_bits_per_char": ("final", "bits_per_char"),
    "best_nats_per_token": ("best", "nats_per_token"),
    "test_bits_per_char": ("saved", "test", "bits_per_char"),
    "wall_seconds": ("wall_seconds",),
    "tokens_per_second": ("training", "tokens_per_second"),
    "share_of_matrix_rate": ("training", "share_of_matrix_rate"),
}


def train(project: Project, model: str) -> dict[str, Any]:
    """Train one model with the project's seed; return its row."""
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as cache:  # empty: torch.compile counts for every seed
        threads = str(torch.get_num_threads())  # all cores, as is recorded
        usage = project.run("train", model, TORCHINDUCTOR_CACHE_DIR=cache, OMP_NUM_THREADS=threads)
    folder = layout.ModelFolder(model, project.root / layout.MODELS)
    history = read_history(folder.training / "history.csv")
    device = devices.pick(project.settings.device)
    network, meta = checkpoint.load(folder.checkpoint, device)
    best = next(point for point in history if point.step == meta.best_step)
    texts = read_splits(project.root / layout.TEXT)
    rate = project.settings.evaluation.dynamic_rate
    scored = scores.score(network, project.dataset(meta.level), texts, device, rate, meta)
    return {
        "seed": project.settings.seed,
        "wall_seconds": round(usage.seconds, 1),
        "peak_memory_mb": round(usage.peak_memory_mb),
        "load_before": round(busy, 2),
        "inductor_cache": "empty",
        "final": _validation(history[-1]),
        "best": _validation(best),
        "saved": scored.metrics.model_dump(mode="json"),
        "training": Speed.read(folder.training / "speed.json").model_dump(mode="json"),
    }


def _validation(point: Point) -> dict[str, float]:
    return {
        "step": point.step,
        "tokens": point.tokens,
        "nats_per_token": point.validation_loss_nats,
        "bits_per_char": point.validation_bits_per_char,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean and sample standard deviation over the seeds of each figure that the rows have."""
    found = {}
    for name, path in AVERAGED.items():
        values = [value for value in (_at(row, path) for row in rows) if value is not None]
        if values:
            sd = statistics.stdev(values) if len(values) > 1 else None
            found[name] = {"mean": statistics.mean(values), "sd": sd}
    return found


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        row = row.get(key) if row else None
    return row


def counted(project: Project) -> dict[str, list[dict[str, float]]]:
    """Return the scores of Kneser-Ney over characters on each split that is not trained on, order by order."""
    texts = read_splits(project.root / layout.TEXT)
    return {
        name: [asdict(baseline) for baseline in score_baselines(texts["train"], texts[name], ORDERS)]
        for name in SCORED
        if texts[name]
    }


def measure(source: str, name: str, values: Values, changes: list[str], seeds: list[int]) -> None:
    """Train every model with every seed; the record is renewed after each, so that a stopped run leaves something."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder), values)
        project.prepare()
        characters = project.dataset(next(iter(project.settings.models.values())).tokenizer).characters
        device = devices.pick(project.settings.device)
        result = {
            "recipe": source,
            "changes": changes,
            "device": device.type,
            "characters": characters,
            "baselines": counted(project),
            "models": {},
            "parameters": values,
            **environment(
                *PACKAGES,
                **processor(),
                torch_threads=torch.get_num_threads(),
                gpu=torch.cuda.get_device_name() if device.type == "cuda" else None,
            ),
        }
        rows: dict[str, list[dict[str, Any]]] = {}
        for seed in seeds:
            project.write({**values, "seed": seed})
            for model in project.settings.models:
                row = train(project, model)
                rows.setdefault(model, []).append(row)
                result["models"][model] = {"summary": summary(rows[model]), "seeds": rows[model]}
                files.write_json(RESULTS / f"train-{name}.json", result)
                print(told(model, row), flush=True)


def told(model: str, row: dict[str, Any]) -> str:
    """Return one row in a line."""
    final, speed = row["final"], row["training"]
    return (
        f"{model}, seed {row['seed']}: {final['nats_per_token']:.4f} nats per token "
        f"({final['bits_per_char']:.4f} bits per character) after {final['tokens']:,} tokens in "
        f"{row['wall_seconds']:.0f} s; {speed['tokens_per_second']:,} tokens/s, {speed['precision']}, "
        f"{speed['execution']}, {speed['share_of_matrix_rate']:.0%} of the matrix rate"
    )


def main() -> None:
    """Measure, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("recipe", nargs="?")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--set", dest="changes", metavar="KEY=VALUE", nargs="+", action="extend", default=[])
    arguments.add_argument("--name", help="of the result, instead of the recipe's")
    arguments.add_argument("--race", action="store_true")
    asked = arguments.parse_args()
    with one_line_errors():
        if asked.race == bool(asked.recipe):
            raise UserError("give a recipe, or --race")
        if asked.race:
            race.run(asked.seeds)
            return
        source, values = recipe(asked.recipe)
        if asked.changes and not asked.name:
            raise UserError("a changed recipe is another one: give its result a name of its own with --name")
        measure(source, asked.name or source, changed(values, asked.changes), asked.changes, asked.seeds)


if __name__ == "__main__":
    main()
