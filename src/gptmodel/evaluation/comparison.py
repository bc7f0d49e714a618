"""Which model is better, by how much and how certainly: what each pays for the same characters, laid side by side.

Models are compared on one text only, by its SHA-256. Those of another revision come out of DVC's cache and those of
MLflow out of its store, through these programs' own command lines: comparing two folders needs neither.
Left out on purpose: training seeds (compare runs of several) and a correction for many comparisons.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gptmodel.errors import UserError
from gptmodel.evaluation.bootstrap import interval, paired
from gptmodel.evaluation.surprisal import CharacterCosts

if TYPE_CHECKING:
    from rich.table import Table

MODELS, LADDER = Path("models"), Path("data/ladder")  # in the repository's root
FILE = "surprisal.npz"
CERTAIN = 0.999  # said in a word from here on
MAX_SAID = 300  # characters of what another program says

_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default waits four minutes for a server that is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def read(name: str) -> CharacterCosts:
    """Return the costs of the model that `name` means in the repository whose root is the current folder.

    - `gpt-char`: models/gpt-char; `ladder`: the best of the counts, data/ladder
    - a folder with surprisal.npz
    - `REVISION:gpt-char`, `REVISION:ladder`: of a Git revision or a DVC experiment, from DVC's cache or remote
    - `run:RUN_ID`: of an MLflow run, from MLFLOW_TRACKING_URI or ./mlflow.db

    `UserError` if it means nothing, or what it means cannot be had.
    """
    for folder in (_folder(name), Path(name)):
        if (folder / FILE).is_file():
            return CharacterCosts.read(folder / FILE)
    before, colon, after = name.partition(":")
    if colon and before and after:
        return _of_run(after) if before == "run" else _of_revision(before, after)
    if _folder(name).is_dir() or Path(name).is_dir():
        folder = _folder(name) if _folder(name).is_dir() else Path(name)
        raise UserError(f"{folder / FILE} does not exist: run `dvc repro`, or `dvc pull` if another machine did")
    known = ", ".join(sorted(path.parent.name for path in MODELS.glob(f"*/{FILE}"))) or "none is evaluated here"
    raise UserError(
        f"{name} is no model: give a name under models/ ({known}), ladder, a folder with {FILE}, "
        "REVISION:NAME or run:RUN_ID"
    )


def read_all(names: list[str]) -> dict[str, CharacterCosts]:
    """Return the costs of each of `names`; `UserError` for fewer than two, or for one that comes twice."""
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice: name each model once")
    if len(names) < 2:
        raise UserError("name two models or more, for example: gptmodel compare gpt-char ladder")
    return {name: read(name) for name in names}


def models(costs: Mapping[str, CharacterCosts], split: str) -> list[dict[str, Any]]:
    """Return `name`, `bits_per_char` and the ends of its 95 % interval, `low` and `high`, of each model, best first.

    `UserError` if a model was not measured on the split, or on another text than the others.
    """
    _check_text(costs, split)
    rows = [{"name": name, **interval(one.nats[split])._asdict()} for name, one in costs.items()]
    return sorted(rows, key=lambda row: float(row["bits_per_char"]))


def pairs(costs: Mapping[str, CharacterCosts], split: str) -> list[dict[str, Any]]:
    """Return the paired difference of every two models (see `bootstrap.Difference`), the better one as `a`.

    Each has `a`, `b`, `bits_per_char` (a minus b: 0 or less), `low`, `high` and `certainty`; errors as in `models`.
    """
    _check_text(costs, split)
    best_first = sorted(costs, key=lambda name: float(costs[name].nats[split].mean(dtype=float)))
    return [
        {"a": a, "b": b, **paired(costs[a].nats[split], costs[b].nats[split])._asdict()}
        for a, b in combinations(best_first, 2)
    ]


def sentence(pair: Mapping[str, Any]) -> str:
    """Say what one of `pairs` means.

    >>> figures = {"a": "gpt", "b": "bigram", "bits_per_char": -0.053}
    >>> sentence({**figures, "low": -0.066, "high": -0.041, "certainty": 1.0})
    'gpt is better than bigram by 0.053 bits/char (0.041 to 0.066), certain'
    >>> sentence({**figures, "low": -0.105, "high": -0.001, "certainty": 0.977})
    'gpt is better than bigram by 0.053 bits/char (0.001 to 0.105), certainty 97.7 %'
    >>> sentence({**figures, "low": -0.113, "high": 0.006, "certainty": 0.961})
    'no real difference between gpt and bigram: 0.053 (-0.006 to 0.113), certainty 96.1 %'
    """
    gap, low, high = (f"{0.0 - pair[key]:.3f}" for key in ("bits_per_char", "high", "low"))
    certainty = "certain" if pair["certainty"] >= CERTAIN else f"certainty {pair['certainty']:.1%}".replace("%", " %")
    if pair["high"] < 0:
        return f"{pair['a']} is better than {pair['b']} by {gap} bits/char ({low} to {high}), {certainty}"
    return f"no real difference between {pair['a']} and {pair['b']}: {gap} ({low} to {high}), {certainty}"


def text_of(costs: Mapping[str, CharacterCosts], split: str) -> dict[str, Any]:
    """Return which text the models are compared on: `split`, `characters` and `sha256`."""
    one = next(iter(costs.values()))
    return {"split": split, "characters": len(one.nats[split]), "sha256": one.sha256[split]}


def table(rows: list[dict[str, Any]]) -> "Table":
    """Return `models` as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table("model", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column("bits/char", justify="right", no_wrap=True)
    drawn.add_column("95 % interval", no_wrap=True)
    for row in rows:
        drawn.add_row(Text(row["name"]), f"{row['bits_per_char']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
    return drawn


def _folder(name: str) -> Path:
    return LADDER if name == "ladder" else MODELS / name


def _check_text(costs: Mapping[str, CharacterCosts], split: str) -> None:
    for name, one in costs.items():
        if split not in one.nats:
            measured = " and ".join(one.nats) or "nothing"
            raise UserError(f"{name} was measured on {measured}, not on {split}: choose another --split")
    texts = {name: (one.sha256[split], len(one.nats[split])) for name, one in costs.items()}
    first = next(iter(texts))
    for name, text in texts.items():
        if text != texts[first]:
            said = [
                f"{who} on {sha256[:12]} ({n:,} characters)"
                for who, (sha256, n) in ((first, texts[first]), (name, text))
            ]
            raise UserError(
                f"the {split} texts differ, {said[0]} and {said[1]}: some texts are easier than others, so bits per "
                "character of different ones say nothing about the models; evaluate both on the same text"
            )


def _of_revision(revision: str, model: str) -> CharacterCosts:
    """Read the costs of a model out of DVC's cache, or its remote, as a Git revision or an experiment left them."""
    path = (_folder(model) / FILE).as_posix()
    with TemporaryDirectory() as folder:
        target = Path(folder) / FILE
        said = _run("dvc", "get", ".", path, f"--rev={revision}", f"--out={target}")
        if said is None:
            return _read_copy(target, f"{revision}:{model}")
    if "unknown Git revision" in said:
        raise UserError(f"{revision} is no Git revision or DVC experiment here: see `git log` and `dvc exp list -A`")
    if "No storage files available" in said:
        raise UserError(
            f"{path} of {revision} is not in DVC's cache: get it with `dvc fetch` or `dvc pull` at that revision, "
            f"or make it again (`dvc exp apply {revision}`, `dvc repro`)"
        )
    if f"['{path}']" in said:
        raise UserError(f"{revision} has no {path}: it knows no such model, or is older than this file")
    raise UserError(f"dvc cannot get {path} of {revision} ({said}): run this in the root of a Git and DVC repository")


def _of_run(run: str) -> CharacterCosts:
    """Read the artifact of an MLflow run."""
    store = os.environ.get("MLFLOW_TRACKING_URI")
    if not store:
        if not Path("mlflow.db").is_file():  # MLflow would create one
            raise UserError("there is no mlflow.db here: run this in the repository's root or set MLFLOW_TRACKING_URI")
        store = f"sqlite:///{Path('mlflow.db').resolve().as_posix()}"
    with TemporaryDirectory() as folder:
        arguments = ("artifacts", "download", f"--run-id={run}", f"--artifact-path={FILE}", f"--dst-path={folder}")
        said = _run("mlflow", *arguments, MLFLOW_TRACKING_URI=store, **_MLFLOW)
        if said is None:
            return _read_copy(Path(folder) / FILE, f"run:{run}")
    if f"Run with id={run} not found" in said:
        raise UserError(f"MLflow has no run {run}: copy the run ID from its page in `make ui`")
    if "Failed to download artifacts" in said:
        raise UserError(f"the MLflow run {run} has no artifact {FILE}: evaluate its model again (dvc repro)")
    raise UserError(f"mlflow cannot get {FILE} of run {run} ({said}): see that its store is there and answers")


def _read_copy(path: Path, name: str) -> CharacterCosts:
    try:
        return CharacterCosts.read(path)
    except UserError:  # it names the copy, which is gone in a moment
        raise UserError(f"{FILE} of {name} is damaged or of another kind: evaluate that model again") from None


def _run(tool: str, *arguments: str, **environment: str) -> str | None:
    """Run a Python package's command line; return None when it succeeds, else the line that says why it failed."""
    if find_spec(tool) is None:
        raise UserError(f"{tool} is not installed: pip install 'gptmodel[pipeline]'")
    command = [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("Having any troubles")]
    said = lines[-1].strip() if lines else f"exit code {done.returncode}"
    return re.sub(r"//[^/@\s]*@", "//", said)[:MAX_SAID]  # an address may hold a password
