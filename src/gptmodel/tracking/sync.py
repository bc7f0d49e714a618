"""Rebuild the MLflow runs of models/* from the DVC outputs (`gptmodel sync`).

For outputs that no stage has logged here: after `dvc pull`, `dvc exp apply` or stages taken from the run cache, and
after a store that was down, was lost or is another one now. A model's run is found by its fingerprint, or created
(tagged `restored=true`); what it lacks is added. Done twice, the second time adds nothing.

The points of a restored curve lie evenly in the time that the training took. What no output holds is not restored
(tokens per second along the curve, how busy the machine was, the seconds of each stage), and what is in MLflow but not
here stays.
"""

import csv
import time

from gptmodel import layout
from gptmodel.errors import UserError
from gptmodel.layout import ModelFolder
from gptmodel.results.evaluation import Breakdown
from gptmodel.results.training import Meta, Speed, read_history
from gptmodel.tracking import figures, outputs, runs
from gptmodel.tracking.runs import Identity

META = "meta.json"
NUMERICS = {"device", "precision", "execution", "threads"}  # what a training logs of its `precision.Numerics`


def trained_models() -> list[str]:
    """Return the names of the trained models in models/; `UserError` if there is none."""
    found = sorted(path.name for path in layout.MODELS.glob("*"))
    names = [name for name in found if (ModelFolder(name).checkpoint / META).is_file()]
    if not names:
        raise UserError(f"{layout.MODELS}/ holds no trained model: run `dvc repro`, or `dvc pull`")
    return names


def sync(name: str) -> str:
    """Bring the MLflow run of models/`name` up to its files; return in a few words what was missing.

    `UserError` where there is no such model, or no store that works from beginning to end.
    """
    folder = ModelFolder(name)
    meta = Meta.read(folder.checkpoint / META, "train the model first (dvc repro), or `dvc pull`")
    speed = Speed.read(folder.training / "speed.json")
    points = read_history(folder.training / "history.csv")
    corpus = outputs.corpus_of(meta)
    page = outputs.title_page(corpus)
    identity = Identity(meta.fingerprint, meta.name, meta.level, page)
    run, created = runs.restore(identity, time.time() - speed.seconds)
    run.log_params({**outputs.hyperparameters(meta), **speed.model_dump(include=NUMERICS)})
    run.log_corpus(corpus)
    run.restore_history([figures.curve(point) for point in points], speed.seconds)
    done = _done(meta, folder)
    for stage in done:
        outputs.LOG[stage](run, folder)
    if "evaluate" in done:
        outputs.describe(run, page, meta, folder, with_report="report" in done)
    run.complete(done)
    if run.client is None:
        raise UserError(f"{name} is not complete in MLflow, as the store stopped working: run it again when it works")
    if created:
        return f"created, {run.written:,} figures and files"
    return f"completed, {run.written:,} figures and files added" if run.written else "up to date"


def _done(meta: Meta, folder: ModelFolder) -> list[str]:
    """Return the stages whose outputs are there and belong to these weights, in the order of the pipeline."""
    folders = {
        "train": folder.training,
        "evaluate": folder.evaluation,
        "inspect": folder.inspection,
        "export": folder.bundle,
        "benchmark": folder.benchmark,
    }
    stages = [stage for stage, path in folders.items() if path.is_dir()]
    if "evaluate" in stages and Breakdown.read(folder.details / "breakdown.json").fingerprint != meta.fingerprint:
        stages.remove("evaluate")  # an experiment that only trained was applied
    table = layout.REPORTS / "comparison.csv"
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            if meta.name in [row["model"] for row in csv.DictReader(file)]:
                stages.append("report")
    return stages
