"""The figure of a sweep: what the DVC experiments of this commit found at each value of one parameter.

    dvc exp run --queue -S models.gpt-char.muon_learning_rate=0.005,0.02,0.08 evaluate@gpt-char
    dvc queue start -j 2
    python benchmarks/sweep.py models.gpt-char.muon_learning_rate

Run it in the root of the repository in which the experiments ran. They must differ in that parameter only; failed and
waiting ones are left out. The result goes to benchmarks/results/sweep.json and docs/sweep.png.
Left out on purpose: choosing the best value (the test text is not there for that) and sweeps of two parameters
(`dvc exp show` and MLflow's compare view show those).
"""

import argparse
import csv
import io
import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import matplotlib
from environment import RESULTS, ROOT, environment, processor

from gptmodel import files, layout
from gptmodel.errors import UserError, one_line_errors
from gptmodel.training import saved_states

FIGURE = ROOT / "docs" / "sweep.png"
COLUMNS = ("bits_per_char", "bits_per_char_low", "bits_per_char_high")  # of metrics.json
Row = dict[str, Any]


def dvc(*arguments: str) -> str:
    """Return what a DVC command prints; `UserError` with its last line if it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc {arguments[0]} failed: {' '.join(done.stderr.split())[-300:] or 'no reason given'}")
    return done.stdout


def finished(shown: list[Any], model: str) -> dict[str, Row]:
    """Return parameters and metrics of the last commit's experiments that evaluated the model, by name."""
    found = {}
    for each in shown[-1]["experiments"] or []:
        data = each["revs"][0]["data"] or {}
        metrics = data.get("metrics", {}).get(str(layout.ModelFolder(model).evaluation / "metrics.json"), {})
        if "data" in metrics:
            found[each["name"]] = {"params": data["params"]["params.yaml"]["data"], "metrics": metrics["data"]}
    return found


def value(params: Row, key: str) -> Any:
    """Return the value of a dotted key.

    >>> value({"models": {"gpt-char": {"n_layer": 4}}}, "models.gpt-char.n_layer")
    4
    """
    inner: Any = params
    for part in key.split("."):
        if not isinstance(inner, dict) or part not in inner:
            raise UserError(f"{key} is not in params.yaml: name a parameter such as models.gpt-char.learning_rate")
        inner = inner[part]
    return inner


def without(params: Row, key: str) -> Row:
    """Return a copy that lacks a dotted key.

    >>> without({"seed": 1, "models": {"gpt-char": {"n_layer": 4}}}, "models.gpt-char.n_layer")
    {'seed': 1, 'models': {'gpt-char': {}}}
    """
    copy = deepcopy(params)
    folder, _, last = key.rpartition(".")
    del value(copy, folder)[last]
    return copy


def check(found: dict[str, Row], key: str) -> None:
    """Refuse experiments that cannot stand on one axis."""
    if len(found) < 2:
        raise UserError("fewer than two experiments of this commit are evaluated: see `dvc exp show`")
    values = {name: value(one["params"], key) for name, one in found.items()}
    if len(set(values.values())) < len(values):
        raise UserError(f"several experiments have the same {key}: keep one of each with `dvc exp remove NAME`")
    (first, one), *others = found.items()
    for name, other in others:
        differing = saved_states.differences(without(one["params"], key), without(other["params"], key))
        if differing:
            raise UserError(f"experiments {first} and {name} differ in more than {key}: {', '.join(differing)}")


def curve(name: str, model: str) -> list[dict[str, float]]:
    """Return characters read and validation bits per character at each evaluation of an experiment, from the cache."""
    import dvc.api

    rows = csv.DictReader(
        io.StringIO(dvc.api.read(str(layout.ModelFolder(model).training / "history.csv"), repo=".", rev=name))
    )
    kept = ("characters", "validation_bits_per_char")
    return [{column: float(row[column]) for column in kept} for row in rows]


def rows(found: dict[str, Row], key: str, model: str) -> list[Row]:
    """Return one row per experiment, in the order of the values."""
    every = []
    for name, one in found.items():
        bits = {
            split: {column: one["metrics"][split][column] for column in COLUMNS} for split in ("validation", "test")
        }
        every.append({"experiment": name, "value": value(one["params"], key), **bits, "curve": curve(name, model)})
    return sorted(every, key=lambda row: float(row["value"]))


def draw(every: list[Row], key: str, path: Path) -> None:
    """Draw the curves on the left and what they end at on the right."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    colors = matplotlib.colormaps["viridis"]([0.9 * index / max(1, len(every) - 1) for index in range(len(every))])
    for row, color in zip(every, colors, strict=True):
        points = [point for point in row["curve"] if point["characters"]]
        left.plot(
            [point["characters"] for point in points],
            [point["validation_bits_per_char"] for point in points],
            ".-",
            color=color,
            label=f"{row['value']:g}",
        )
    left.set_xlabel("characters read in training")
    left.set_ylabel("validation bits per character")
    left.legend(title=key.split(".")[-1])
    for split, marker in (("validation", "o-"), ("test", "s--")):
        middle, low, high = ([row[split][column] for row in every] for column in COLUMNS)
        ends = [[b - a for a, b in zip(one, two, strict=True)] for one, two in ((low, middle), (middle, high))]
        right.errorbar([row["value"] for row in every], middle, ends, fmt=marker, capsize=3, label=split)
    right.set_xscale("log")
    right.set_xticks([row["value"] for row in every], [f"{row['value']:g}" for row in every])
    right.minorticks_off()
    right.set_xlabel(key)
    right.set_ylabel("bits per character, with 95 % interval")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Read, draw, record."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("key", help="the parameter, for example models.gpt-char.learning_rate")
    key = arguments.parse_args().key
    with one_line_errors():
        _, _, model = key.partition("models.")
        model = model.partition(".")[0]
        found = finished(json.loads(dvc("exp", "show", "--json")), model)
        check(found, key)
        every = rows(found, key, model)
        parameters = next(iter(found.values()))["params"]["models"][model]
        conditions = environment("dvc", "torch", "numpy", **processor())
        record = {"parameter": key, "rows": every, "parameters": parameters, **conditions}
        files.write_json(RESULTS / "sweep.json", record)
        draw(every, key, FIGURE)
        for row in every:
            validation, test = (row[split][COLUMNS[0]] for split in ("validation", "test"))
            print(f"{row['value']:g}: validation {validation:.3f}, test {test:.3f} bits/char")


if __name__ == "__main__":
    main()
