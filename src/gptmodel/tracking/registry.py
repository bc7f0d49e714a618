"""Bundles as registered MLflow models: `python -m gptmodel.tracking.registry [MODEL...]`, in the repository.

Each corpus and level has one registered model, gptmodel-CORPUS-LEVEL; each bundle becomes a version of it, logged in
its model's run, once. The alias `champion` is the version with the fewest bits per character of the text that the
newest one was tested on (validation where there is no test). A version brings its code and needs the inference runtime:

    mlflow.pyfunc.load_model("models:/gptmodel-dernier-jour-char@champion").predict(["Il était "], params={"seed": 7})
    mlflow models serve -m models:/gptmodel-dernier-jour-char@champion --env-manager local

Left out on purpose: stages (MLflow has replaced them by aliases), and deleting versions.
Source: https://mlflow.org/docs/latest/ml/model-registry
"""

import argparse
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gptmodel import files
from gptmodel.errors import UserError, one_line_errors
from gptmodel.runtime import bundle
from gptmodel.runtime.bundle import Info
from gptmodel.tracking import runs, store
from gptmodel.tracking.run import brief

MODELS = Path("models")
CHAMPION = "champion"
SOURCE = Path(__file__).parent
# what pyfunc.py imports of this library (a test compares)
CODE = ["__init__", "bundle", "decoding", "device_decoder", "errors", "fast_decoder", "files", "generation"]
CODE += ["onnx_decoder", "onnx_session", "progress", "tokenizer", "units", "variants"]
PARAMETERS: list[tuple[str, str, Any]] = [  # name, type and default, as of `gptmodel generate`
    ("max_new_tokens", "long", 200),
    ("temperature", "double", 0.8),
    ("top_k", "long", 0),
    ("top_p", "double", 0.95),
    ("repetition_penalty", "double", 1.0),
    ("seed", "long", 0),
    ("stop", "string", []),
]


def register(folder: Path) -> str:
    """Register the bundle in `folder`, unless it is, and choose the champion; return in a few words what it is now.

    `UserError` for a bundle that is damaged or not evaluated, and for a store that does not work.
    """
    info, digest = bundle.read_info(folder), files.sha256(folder / bundle.INFO)
    bundle.check(folder)
    split = next((split for split in ("test", "validation") if split in info.metrics), None)
    if split is None:
        raise UserError(f"{folder / bundle.INFO} has no metrics: evaluate and export the model (dvc repro)")
    name = re.sub(r"[^\w.-]+", "-", f"gptmodel-{info.corpus['name']}-{info.level}")
    run, _ = runs.restore(
        fingerprint=info.fingerprint, variant=info.variant, corpus=info.corpus, level=info.level, began=time.time()
    )
    client = run.client
    try:
        known = [one for one in _versions(client, name) if one.tags.get("bundle_sha256") == digest]
        if not known:
            score = info.metrics[split]
            tags = {"variant": info.variant, "fingerprint": info.fingerprint, "bundle_sha256": digest}
            tags |= {"text": f"{split}, {score['characters']} characters", "bits_per_char": score["bits_per_char"]}
            known = [_add(client, name, run.id, _log(run.id, folder, info), tags)]
        champion = _choose(client, name)
    except store.failures() as error:
        raise UserError(f"{folder} is not registered, as the store failed ({brief(error)}): run it again") from None
    number = str(known[0].version)
    return f"{name} version {number}{' (champion)' if number == champion else ''}"


def best(versions: Iterable[Any]) -> Any:
    """Return the version with the fewest bits per character of the text that the newest was tested on."""
    newest_first = sorted(versions, key=lambda one: int(one.version), reverse=True)
    same_text = [one for one in newest_first if one.tags.get("text") == newest_first[0].tags.get("text")]
    return min(same_text, key=lambda one: float(one.tags["bits_per_char"]))


def _versions(client: Any, name: str) -> list[Any]:
    return [one for one in client.search_model_versions(f"name = '{name}'") if "bundle_sha256" in one.tags]


def _choose(client: Any, name: str) -> str:
    """Point the alias at the best version and return its number."""
    chosen = str(best(_versions(client, name)).version)
    if str(client.get_registered_model(name).aliases.get(CHAMPION)) != chosen:
        client.set_registered_model_alias(name, CHAMPION, chosen)
    return chosen


def _add(client: Any, name: str, run_id: Any, logged: Any, tags: dict[str, Any]) -> Any:
    """Make a logged model a version, of a registered model that is created if need be."""
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # it exists
        client.create_registered_model(name, description="Continues text. Input: prompts; output: continuations.")
    words = f"{tags['variant']}: {tags['bits_per_char']:.3f} bits per character ({tags['text']})"
    return client.create_model_version(
        name, logged.model_uri, run_id, tags=tags, description=words, model_id=logged.model_id
    )


def _log(run_id: Any, folder: Path, info: Info) -> Any:
    """Log the bundle as a model of the run, which keeps its end."""
    import mlflow

    mlflow.set_tracking_uri(store.address())
    client = mlflow.MlflowClient()
    ended = client.get_run(run_id).info.end_time
    example = (["Il était "], {name: default for name, _, default in PARAMETERS if default != []})
    with TemporaryDirectory() as scratch, mlflow.start_run(run_id=run_id):
        code = Path(scratch) / "gptmodel"
        code.mkdir()
        for module in CODE:
            shutil.copy(SOURCE / f"{module}.py", code)
        logged = mlflow.pyfunc.log_model(
            name=info.variant,
            python_model=str(SOURCE / "pyfunc.py"),
            artifacts={"bundle": str(folder)},
            code_paths=[str(code)],
            signature=_signature(),
            input_example=example,
            pip_requirements=requirements(),
        )
    client.set_terminated(run_id, "FINISHED", ended)
    return logged


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    specs = [ParamSpec(name, kind, value, (-1,) if value == [] else None) for name, kind, value in PARAMETERS]
    return ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")]), ParamSchema(specs))


def requirements() -> list[str]:
    """Return what a registered model needs, pinned to what is installed: MLflow and the inference runtime.

    ONNX Runtime is asked for without CUDA: a server that has a GPU installs onnxruntime-gpu in its place.
    """
    from onnxruntime import __version__ as runtime

    names = ("mlflow", "numpy", "tokenizers")
    return [*(f"{name}=={version(name)}" for name in names), f"onnxruntime=={runtime}"]


def main() -> None:
    """Register the bundles of the models named on the command line, or all of models/."""
    parser = argparse.ArgumentParser(prog="python -m gptmodel.tracking.registry", description=__doc__.split(":")[0])
    parser.add_argument("models", metavar="MODEL", nargs="*", help="names under models/ (default: all with a bundle)")
    with one_line_errors():
        found = sorted(path.parent.parent.name for path in MODELS.glob(f"*/bundle/{bundle.INFO}"))
        names = parser.parse_args().models or found
        if not names:
            raise UserError(f"{MODELS}/ holds no bundle: run `dvc repro`, or `dvc pull`")
        for _ in range(2):  # registered once; a later one may have taken the alias from an earlier one
            lines = [f"{name}: {register(MODELS / name / 'bundle')}" for name in names]
        print("\n".join(lines))


if __name__ == "__main__":
    main()
