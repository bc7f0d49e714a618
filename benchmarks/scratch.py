"""A scratch copy of the project: a benchmark runs the real stages there, on parameters of its own.

Parameters come from a recipe (recipes/NAME.yaml, or the path of a file like params.yaml) with some keys changed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from environment import ROOT

from gptmodel import layout, params, strict
from gptmodel.arrays import Ids
from gptmodel.data.dataset import Dataset
from gptmodel.errors import UserError
from gptmodel.model import networks
from gptmodel.params import Model, Params
from gptmodel.results.corpus import SplitName
from gptmodel.training.precision import Numerics
from gptmodel.training.trainer import Trainer

Values = dict[str, Any]  # a params.yaml as nested dictionaries


def recipe(name: str) -> tuple[str, Values]:
    """Return the name and the values of a recipe; `UserError` names those that exist."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else ROOT / "recipes" / f"{name}.yaml"
    if not path.exists():
        known = sorted(each.stem for each in (ROOT / "recipes").glob("*.yaml"))
        raise UserError(f"{path} does not exist: give one of {', '.join(known) or 'your own files'}")
    return path.stem, strict.read_yaml(path)


def changed(values: Values, changes: Sequence[str]) -> Values:
    """Return the values with `key=value` applied to each key; the key `models.*.steps` means every model's steps.

    >>> changed({"seed": 1, "models": {"a": {"steps": 9}, "b": {"steps": 9}}}, ["seed=7", "models.*.steps=2"])
    {'seed': 7, 'models': {'a': {'steps': 2}, 'b': {'steps': 2}}}
    """
    values = deepcopy(values)
    for change in changes:
        key, separator, text = change.partition("=")
        *folders, last = key.split(".")
        sections = [values]
        for folder in folders:
            found = [list(each.values()) if folder == "*" else [each.get(folder)] for each in sections]
            sections = [inner for each in found for inner in each if isinstance(inner, dict)]
        sections = [each for each in sections if last in each]
        if not separator or not sections:
            raise UserError(f"--set {change}: give KEY=VALUE with a key of the recipe, such as models.*.steps=100")
        for section in sections:
            section[last] = _value(text)
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Usage:
    """What a stage took, as a process: from its start to its exit."""

    seconds: float
    peak_memory_mb: float


@dataclass
class Project:
    """The copy under `root`; the stages in it run without DVC and MLflow."""

    root: Path
    settings: Params

    @classmethod
    def make(cls, root: Path, values: Values) -> "Project":
        """Copy the code to `root` and write params.yaml; `UserError` for a wrong value."""
        for name in ("pipelines", "src"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "data").mkdir()
        shutil.copy(ROOT / "data" / "catalog.yaml", root / "data")
        project = cls(root, strict.parse(Params, values, root / "params.yaml"))
        project.write(values)
        return project

    @classmethod
    def read(cls, root: Path) -> "Project":
        """Return the project that `make` left in `root`."""
        return cls(root, params.load(root / "params.yaml"))

    def write(self, values: Values) -> None:
        """Replace the parameters."""
        path = self.root / "params.yaml"
        self.settings = strict.parse(Params, values, path)
        path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")

    def prepare(self) -> None:
        """Run the stages before training, for the levels of the models."""
        levels = sorted({model.tokenizer for model in self.settings.models.values()})
        for stage in (["fetch"], ["clean"], *(["encode", level] for level in levels)):
            self.run(*stage)

    def start(self, stage: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a stage; `environment` adds variables."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
        variables = {**inherited, "GPTMODEL_TRACKING": "off", **environment}
        return subprocess.Popen([sys.executable, "-m", f"pipelines.{stage}", *arguments], cwd=self.root, env=variables)

    def run(self, stage: str, *arguments: str, **environment: str) -> Usage:
        """Run a stage to its end; `UserError` if it fails (the stage itself has said why)."""
        started = time.perf_counter()
        process = self.start(stage, *arguments, **environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UserError(f"{' '.join([stage, *arguments])} failed (exit code {process.returncode})")
        return Usage(seconds, usage.ru_maxrss / 1000)

    def dataset(self, level: str) -> Dataset:
        """Return the encoded corpus."""
        return Dataset.read(self.root / layout.TOKENS / level)


def trainer(
    config: Model, splits: Mapping[SplitName, Ids], vocab_size: int, seed: int, numerics: Numerics, **options: Any
) -> Trainer:
    """Return a training at its first step, as the stage makes it; `options` are those of `Trainer`."""
    torch.set_num_threads(numerics.threads)
    torch.manual_seed(seed)
    network = networks.build(networks.architecture(config), vocab_size).to(numerics.device)
    return Trainer(network, splits, config, seed, numerics, **options)
