"""A whole run of the models of `records.py`: its records together, and on disk where the stages lay them."""

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from gptmodel import layout
from gptmodel.evaluation import surprisal
from gptmodel.evaluation.surprisal import CharacterCosts
from gptmodel.report.results import Everything, ModelResults
from gptmodel.results.comparison import Pair
from gptmodel.results.evaluation import Scored
from gptmodel.results.samples import Samples
from gptmodel.results.training import Point
from tests.support import records


def model(name: str = "gpt", has_test: bool = True, **changes: Any) -> ModelResults:
    """Return all the records of one of `records.MODELS`; `changes` take the place of records."""
    bits = records.MODELS[name][0]
    split: Scored = "test" if has_test else "validation"
    written = Samples(samples=[records.sample()])
    values: dict[str, Any] = {
        "meta": records.meta(name, has_test),
        "speed": records.speed(),
        "history": records.history(bits),
        "timeline": records.timeline(),
        "metrics": records.metrics(bits, has_test, parameters=records.PARAMETERS[name]),
        "breakdown": records.breakdown(bits, split),
        "novelty": records.novelty(written, ["It copies."] if name == "word" else []),
        "samples": written,
        "inspection": records.inspection(name, split),
        "benchmark": records.benchmark(),
    }
    return ModelResults(**{**values, **changes})


def pairs() -> list[Pair]:
    """Compare every two of `records.MODELS` and the best baseline, which is too close to two of them."""
    gaps = {("gpt", "word"): -0.1, ("gpt", "pairs"): -1.5, ("word", "pairs"): -1.4, ("kneser-ney-3", "pairs"): -1.4}
    real = [
        Pair(a=a, b=b, bits_per_char=gap, low=gap - 0.05, high=gap + 0.05, certainty=1.0, is_real=True)
        for (a, b), gap in gaps.items()
    ]
    close = [
        Pair(a=a, b=b, bits_per_char=gap, low=gap - 0.11, high=gap + 0.11, certainty=0.96, is_real=False)
        for a, b, gap in [("gpt", "kneser-ney-3", -0.1), ("kneser-ney-3", "word", 0.0)]
    ]
    return [*real, *close]


def run(has_test: bool = True) -> Everything:
    """Return the records of a run of all of `records.MODELS`, in that order; the best is gpt."""
    return Everything(
        corpus=records.clean_corpus(has_test),
        baselines=records.baselines(has_test),
        models={name: model(name, has_test) for name in records.MODELS},
        pairs=pairs(),
    )


def costs(bits: float, seed: int, has_test: bool = True) -> CharacterCosts:
    """Return losses of characters that scatter around `bits`."""
    drawn = np.random.default_rng(seed).normal(bits * records.NATS, 0.1, records.CHARACTERS).astype(np.float32)
    scored: list[Scored] = ["validation", "test"] if has_test else ["validation"]
    digest = hashlib.sha256(b"the text").hexdigest()
    return CharacterCosts(nats=dict.fromkeys(scored, drawn), sha256=dict.fromkeys(scored, digest))


def write(everything: Everything, root: Path) -> dict[str, layout.ModelFolder]:
    """Lay the records of a run under `root` as the stages do, and return the models' folders by name."""
    everything.corpus.write(root / layout.CLEAN / "corpus.json")
    everything.baselines.write(root / layout.BASELINES / "baselines.json")
    has_test = everything.main_split == "test"
    best = everything.baselines.best_on(everything.main_split).bits_per_char
    costs(best, 0, has_test).write(root / layout.BASELINES / surprisal.FILE)
    folders = {name: layout.ModelFolder(name, root / layout.MODELS) for name in everything.models}
    for seed, (name, results) in enumerate(everything.models.items(), start=1):
        write_model(results, folders[name])
        costs(results.metrics.main.bits_per_char, seed, has_test).write(folders[name].details / surprisal.FILE)
    return folders


def write_model(results: ModelResults, folder: layout.ModelFolder) -> None:
    """Lay the records of one model into its folders."""
    results.meta.write(folder.checkpoint / "meta.json")
    results.speed.write(folder.training / "speed.json")
    results.timeline.write(folder.training / "timeline.json")
    with (folder.training / "history.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, list(Point.model_fields), lineterminator="\n")
        rows.writeheader()
        rows.writerows(point.model_dump() for point in results.history)
    results.metrics.write(folder.evaluation / "metrics.json")
    results.breakdown.write(folder.details / "breakdown.json")
    results.novelty.write(folder.details / "novelty.json")
    results.samples.write(folder.details / "samples.json")
    results.inspection.write(folder.inspection / "inspection.json")
    results.benchmark.write(folder.benchmark / "benchmark.json")
