"""Bundles as registered MLflow models (`gptmodel register`).

Each corpus and level has one registered model, gptmodel-CORPUS-LEVEL; each bundle becomes a version of it, logged in
its model's run, once. The alias `champion` is the version with the fewest bits per character of the text that the
newest one was tested on (validation where there is no test). A version brings its code and needs the inference runtime:

    mlflow.pyfunc.load_model("models:/gptmodel-dernier-jour-char@champion").predict(["Il était "], params={"seed": 7})
    mlflow models serve -m models:/gptmodel-dernier-jour-char@champion --env-manager local

Source: https://mlflow.org/docs/latest/ml/model-registry
"""

import re
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gptmodel import files, layout
from gptmodel.decoding import defaults
from gptmodel.errors import UserError
from gptmodel.results.bundle import BundleInfo
from gptmodel.results.evaluation import Metrics
from gptmodel.runtime import bundle, session
from gptmodel.tracking import figures, runs, store, values
from gptmodel.tracking.curves import now_ms

CHAMPION = "champion"
DESCRIPTION = "Continues text. Input: prompts; output: continuations."
LIBRARY = Path(__file__).resolve().parents[1]
ROOMS = ("results", "data", "decoding", "runtime")  # what pyfunc.py reaches, beside the ground files
PARAMETERS: list[tuple[str, str, Any]] = [  # name, type and default
    ("max_new_tokens", "long", defaults.MAX_NEW_TOKENS),
    ("temperature", "double", defaults.TEMPERATURE),
    ("top_k", "long", defaults.TOP_K),
    ("top_p", "double", defaults.TOP_P),
    ("repetition_penalty", "double", defaults.REPETITION_PENALTY),
    ("seed", "long", 0),
    ("stop", "string", []),
]


@dataclass(frozen=True)
class Checked:
    """A bundle that may be registered."""

    folder: Path
    info: BundleInfo
    metrics: Metrics
    sha256: str  # of bundle.json, which holds the hashes of the other files

    @property
    def name(self) -> str:
        """The registered model that it is a version of."""
        return re.sub(r"[^\w.-]+", "-", f"gptmodel-{self.info.corpus.name}-{self.info.level}")

    def tags(self) -> dict[str, Any]:
        """Return what its version says of it; versions compete that were tested on the same `text`."""
        return {
            "model": self.info.model,
            "fingerprint": self.info.fingerprint,
            "bundle_sha256": self.sha256,
            "text": f"{self.metrics.main_split}, {self.metrics.main.characters} characters",
            "bits_per_char": self.metrics.main.bits_per_char,
        }


def exported_models() -> list[str]:
    """Return the names of the models in models/ that have a bundle; `UserError` if there is none."""
    found = sorted(path.name for path in layout.MODELS.glob("*"))
    names = [name for name in found if (layout.ModelFolder(name).bundle / bundle.INFO).is_file()]
    if not names:
        raise UserError(f"{layout.MODELS}/ holds no bundle: run `dvc repro`, or `dvc pull`")
    return names


def register(folders: Sequence[Path]) -> list[str]:
    """Register the bundles in `folders`, unless they are, then choose the champions; say what each is now.

    `UserError` for a bundle that is damaged or not evaluated, and for a store that does not work.
    """
    versions = [(checked.name, _register(checked)) for checked in [_check(folder) for folder in folders]]
    import mlflow  # after the settings that opening the store makes

    try:
        champions = {name: _choose(mlflow.MlflowClient(store.address()), name) for name in dict(versions)}
    except store.failures() as error:
        raise UserError(f"no champion is chosen, as the store failed ({store.brief(error)}): run it again") from None
    return [f"{name} version {number}{' (champion)' if number == champions[name] else ''}" for name, number in versions]


def best(versions: Iterable[Any]) -> Any:
    """Return the version with the fewest bits per character of the text that the newest was tested on."""
    newest_first = sorted(versions, key=lambda version: int(version.version), reverse=True)
    text = newest_first[0].tags.get("text")
    same_text = [version for version in newest_first if version.tags.get("text") == text]
    return min(same_text, key=lambda version: float(version.tags["bits_per_char"]))


def requirements() -> list[str]:
    """Return what a registered model needs, pinned to what is installed: MLflow and the inference runtime.

    ONNX Runtime is asked for without CUDA: a server that has a GPU installs onnxruntime-gpu in its place.
    """
    names = ("mlflow", "numpy", "tokenizers", "pydantic")
    return [*(f"{name}=={version(name)}" for name in names), f"onnxruntime=={session.onnxruntime().__version__}"]


def _check(folder: Path) -> Checked:
    info = bundle.read_info(folder)
    bundle.check(folder, info)
    if info.metrics is None:
        raise UserError(f"{folder / bundle.INFO} has no metrics: evaluate and export the model (dvc repro)")
    return Checked(folder, info, info.metrics, files.sha256(folder / bundle.INFO))


def _register(checked: Checked) -> str:
    """Return the number of the bundle's version, which is made if need be."""
    info = checked.info
    run, _ = runs.restore(runs.Identity(info.fingerprint, info.model, info.level, info.corpus), time.time())
    try:
        for known in _versions(run.client, checked.name):
            if known.tags["bundle_sha256"] == checked.sha256:
                return str(known.version)
        return str(_add(run.client, run.id, checked).version)
    except store.failures() as error:
        said = f"{checked.folder} is not registered, as the store failed ({store.brief(error)}): run it again"
        raise UserError(said) from None


def _versions(client: Any, name: str) -> list[Any]:
    found = client.search_model_versions(f"name = '{name}'")
    return [version for version in found if "bundle_sha256" in version.tags]


def _choose(client: Any, name: str) -> str:
    """Point the alias at the best version and return its number."""
    chosen = str(best(_versions(client, name)).version)
    if str(client.get_registered_model(name).aliases.get(CHAMPION)) != chosen:
        client.set_registered_model_alias(name, CHAMPION, chosen)
    return chosen


def _add(client: Any, run_id: str, checked: Checked) -> Any:
    """Log a bundle and make it a version, of a registered model that is created if need be."""
    import mlflow
    from mlflow.exceptions import MlflowException

    logged = _log(run_id, checked)
    _score(client, run_id, logged.model_id, checked.metrics)
    with suppress(MlflowException):  # it exists
        client.create_registered_model(checked.name, description=DESCRIPTION)
    tags = checked.tags()
    with redirect_stderr(StringIO()):  # what it says is said by `register`
        made = mlflow.register_model(f"models:/{logged.model_id}", checked.name, tags=tags)
    words = f"{tags['model']}: {tags['bits_per_char']:.3f} bits per character ({tags['text']})"
    client.update_model_version(checked.name, made.version, words)
    return made


def _log(run_id: str, checked: Checked) -> Any:
    """Log a bundle as a model of the run, which keeps its end."""
    import mlflow

    mlflow.set_tracking_uri(store.address())
    client = mlflow.MlflowClient()
    ended = client.get_run(run_id).info.end_time
    example = ([checked.info.example_prompt], {name: default for name, _, default in PARAMETERS if default != []})
    with TemporaryDirectory() as scratch, mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name=checked.info.model,
            python_model=str(LIBRARY / "tracking" / "pyfunc.py"),
            artifacts={"bundle": str(checked.folder)},
            code_paths=[str(copy_code(Path(scratch)))],
            signature=_signature(),
            input_example=example,
            pip_requirements=requirements(),
            step=checked.info.best_step,  # MLflow shows the figures of that step as the model's
        )
    client.set_terminated(run_id, "FINISHED", ended)
    return logged


def _score(client: Any, run_id: str, model_id: str, metrics: Metrics) -> None:
    """Log the final scores on the logged model, each with the text that it is of; the run has the same points."""
    from mlflow.entities import Metric

    run = client.get_run(run_id)
    texts = {used.dataset.name.rpartition("/")[2]: used.dataset for used in run.inputs.dataset_inputs}
    points = []
    for dotted, value in values.numbers(figures.scores(metrics)):
        key = dotted.replace(".", "/", 1)
        held = [point.timestamp for point in client.get_metric_history(run_id, key) if point.value == value]
        text = texts.get(key.partition("/")[0])
        of = (text.name, text.digest) if text else ()
        points.append(Metric(key, value, held[-1] if held else now_ms(), 0, model_id, *of))
    client.log_batch(run_id, metrics=points)


def copy_code(folder: Path) -> Path:
    """Copy the ground files and `ROOMS` of the library into `folder`; return the copy."""
    copy = folder / LIBRARY.name
    copy.mkdir()
    for file in sorted(LIBRARY.glob("*.py")):
        shutil.copy(file, copy)
    for room in ROOMS:
        shutil.copytree(LIBRARY / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    specs = [ParamSpec(name, kind, value, (-1,) if value == [] else None) for name, kind, value in PARAMETERS]
    return ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")]), ParamSchema(specs))
