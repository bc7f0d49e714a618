"""Rebuild the MLflow runs of models/* from the DVC outputs: `python -m gptmodel.tracking.sync [MODEL...]`, in the repository.

For outputs that no stage has logged here: after `dvc pull`, `dvc exp apply` or stages taken from the run cache, and
after a store that was down, was lost or is another one now. A model's run is found by its fingerprint, or created
(tagged `restored=true`); what it lacks is added. Done twice, the second time adds nothing.

The points of a restored curve lie evenly in the time that the training took. Hyperparameters come from dvc.lock, if
its outputs are the model's. Left out on purpose: what no output holds (tokens per second along the curve, how busy the
machine was), and removing what is in MLflow but not here.
"""

import argparse
import csv
import hashlib
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from gptmodel.errors import UserError, one_line_errors
from gptmodel.evaluation import scores
from gptmodel.model import checkpoint
from gptmodel.model.checkpoint import Meta
from gptmodel.outputs import read_json
from gptmodel.strict import read_yaml
from gptmodel.tracking import outputs, runs
from gptmodel.training.precision import Numerics

MODELS, REPORTS, LOCK = Path("models"), Path("reports"), Path("dvc.lock")
CHECKPOINTS = f"*/checkpoint/{checkpoint.META}"
NUMERICS = [field.name for field in fields(Numerics)]


def sync(name: str) -> str:
    """Bring the MLflow run of models/`name` up to its files; return in a few words what was missing.

    `UserError` where there is no such model, or no store that works from beginning to end.
    """
    folder = MODELS / name
    meta = checkpoint.read_meta(folder / "checkpoint")
    training = read_json(folder / "training.json")
    rows = _rows(folder / "history.csv")
    run, created = runs.restore(**meta.identity(), began=time.time() - training["seconds"])
    run.log_params({**parameters(meta, folder / "history.csv"), **{key: training[key] for key in NUMERICS}})
    run.log_corpus(meta.corpus)
    run.restore_history(rows, training["seconds"])
    done = [stage for stage, names in outputs.FILES.items() if all((folder / file).is_file() for file in names)]
    if "evaluate" in done and read_json(folder / "breakdown.json").get("fingerprint") != meta.fingerprint:
        done.remove("evaluate")  # of other weights: an experiment that only trained was applied
    for stage in done:
        outputs.LOG[stage](run, folder)
    reports = REPORTS if _compares(REPORTS, name) else None
    if reports:
        outputs.reported(run, reports)
    if "evaluate" in done:
        summary = scores.summary(meta, read_json(folder / "metrics.json"))
        outputs.describe(run, summary, folder, reports)
    run.complete([*done, *(["report"] if reports else [])], training["seconds"])
    if run.client is None:
        raise UserError(f"{name} is not complete in MLflow, as the store stopped working: run it again when it works")
    if created:
        return f"created, {run.written:,} figures and files"
    return f"completed, {run.written:,} figures and files added" if run.written else "up to date"


def parameters(meta: Meta, history: Path) -> dict[str, Any]:
    """Return what a model was trained with: from dvc.lock where that describes its `history`, else from its meta."""
    known = {**meta.network.model_dump(mode="json"), "seed": meta.seed}
    stage = read_yaml(LOCK)["stages"].get(f"train@{meta.variant}") if LOCK.is_file() else None
    digest = hashlib.md5(history.read_bytes(), usedforsecurity=False).hexdigest()  # what dvc.lock knows files by
    if stage and digest in [out["md5"] for out in stage["outs"] if out["path"] == history.as_posix()]:
        return {**stage["params"]["params.yaml"][f"models.{meta.variant}"], **known}
    return known


def _compares(reports: Path, name: str) -> bool:
    """Tell whether a report is there and shows a model."""
    table = reports / "comparison.csv"
    if not table.is_file():
        return False
    with table.open(encoding="utf-8", newline="") as file:
        return any(row["model"] == name for row in csv.DictReader(file))


def _rows(history: Path) -> list[dict[str, float]]:
    """Return history.csv with NaN for its empty cells."""
    with history.open(encoding="utf-8", newline="") as file:
        return [{key: float(cell or "nan") for key, cell in row.items()} for row in csv.DictReader(file)]


def main() -> None:
    """Bring MLflow up to the models named on the command line, or to all of models/."""
    parser = argparse.ArgumentParser(prog="python -m gptmodel.tracking.sync", description=__doc__.split(":")[0])
    parser.add_argument("models", metavar="MODEL", nargs="*", help="names under models/ (default: all of them)")
    with one_line_errors():
        names = parser.parse_args().models or sorted(path.parent.parent.name for path in MODELS.glob(CHECKPOINTS))
        if not names:
            raise UserError(f"{MODELS}/ holds no trained model: run `dvc repro`, or `dvc pull`")
        for name in names:
            print(f"{name}: {sync(name)}")


if __name__ == "__main__":
    main()
