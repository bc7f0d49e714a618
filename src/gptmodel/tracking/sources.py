"""What `gptmodel compare` reads: the cost of every character, from a folder, a Git revision or an MLflow run."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from gptmodel import layout
from gptmodel.errors import UserError
from gptmodel.evaluation.surprisal import FILE, CharacterCosts
from gptmodel.tracking import store
from gptmodel.tracking.store import StoreUnavailable

BASELINES = "baselines"  # the name of the best of them
STAGE = layout.ModelFolder("").details.relative_to(layout.MODELS).as_posix()  # in models/NAME and in a run's artifacts


def read_all(names: Sequence[str]) -> dict[str, CharacterCosts]:
    """Return the costs of each of `names`; `UserError` for fewer than two, or for one that comes twice."""
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice: name each model once")
    if len(names) < 2:
        raise UserError(f"name two models or more, for example: gptmodel compare gpt-char {BASELINES}")
    return {name: read(name) for name in names}


def read(name: str) -> CharacterCosts:
    """Return the costs of the model that `name` means in the repository whose root is the current folder.

    - `gpt-char`: models/gpt-char; `baselines`: the best of those that count, data/baselines
    - a folder with surprisal.safetensors
    - `REVISION:gpt-char`, `REVISION:baselines`: of a Git revision or a DVC experiment, from DVC's cache or remote
    - `run:RUN_ID`: of an MLflow run, from MLFLOW_TRACKING_URI or ./mlflow.db

    `UserError` if it means nothing, or what it means cannot be had.
    """
    for folder in (_folder(name), Path(name)):
        if (folder / FILE).is_file():
            return CharacterCosts.read(folder / FILE)
    before, colon, after = name.partition(":")
    if colon and before and after:
        return _of_run(after) if before == "run" else _of_revision(before, after)
    home = layout.BASELINES if name == BASELINES else layout.MODELS / name
    for place, folder in ((home, _folder(name)), (Path(name), Path(name))):
        if place.is_dir():
            raise UserError(f"{folder / FILE} does not exist: run `dvc repro`, or `dvc pull` if another machine did")
    models = sorted(path.parents[2].name for path in layout.MODELS.glob(f"*/{STAGE}/{FILE}"))
    raise UserError(
        f"{name} is no model: give a name under models/ ({', '.join(models) or 'none is evaluated here'}), "
        f"{BASELINES}, a folder with {FILE}, REVISION:NAME or run:RUN_ID"
    )


def _folder(name: str) -> Path:
    return layout.BASELINES if name == BASELINES else layout.ModelFolder(name).details


def _of_revision(revision: str, name: str) -> CharacterCosts:
    """Read the costs of a model as a Git revision or an experiment left them."""
    store.require("dvc")
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import RevError
    from dvc_data.index import DataIndexDirError

    path = (_folder(name) / FILE).as_posix()
    lost = (
        f"{path} of {revision} is not in DVC's cache: get it with `dvc fetch` or `dvc pull` at that revision, "
        f"or make it again (`dvc exp apply {revision}`, `dvc repro`)"
    )
    unknown = f"{revision} has no {path}: it knows no such model, or is older than this file"
    try:
        repository = DVCFileSystem(rev=revision)
        with TemporaryDirectory() as scratch:
            copy = Path(scratch) / FILE
            try:
                copy.write_bytes(repository.read_bytes(path))
            except FileNotFoundError:
                raise UserError(lost if repository.isfile(path) else unknown) from None
            return _read_copy(copy, f"{revision}:{name}")
    except RevError:
        said = f"{revision} is no Git revision or DVC experiment here"
        raise UserError(f"{said}: see `git log` and `dvc exp list -A`") from None
    except DataIndexDirError:  # not even the list of the folder's files is there
        raise UserError(lost) from None
    except (DvcException, OSError) as error:
        said = f"dvc cannot get {path} of {revision} ({store.without_password(store.brief(error))})"
        raise UserError(f"{said}: run this in the root of a Git and DVC repository") from None


def _of_run(run_id: str) -> CharacterCosts:
    """Read the artifact of an MLflow run."""
    store.require("mlflow")
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    if store.is_missing():
        raise UserError("there is no mlflow.db here: run this in the repository's root or set MLFLOW_TRACKING_URI")
    artifact = f"{STAGE}/{FILE}"
    try:
        client = store.open_store().client
        try:
            client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            raise UserError(f"MLflow has no run {run_id}: copy the run ID from its page in `make ui`") from None
        if artifact not in [entry.path for entry in client.list_artifacts(run_id, STAGE)]:
            raise UserError(f"the MLflow run {run_id} has no artifact {artifact}: evaluate its model again (dvc repro)")
        with TemporaryDirectory() as scratch:
            return _read_copy(Path(client.download_artifacts(run_id, artifact, scratch)), f"run:{run_id}")
    except StoreUnavailable as error:
        raise UserError(str(error)) from None
    except store.failures() as error:
        said = f"mlflow cannot get {artifact} of run {run_id} ({store.without_password(store.brief(error))})"
        raise UserError(f"{said}: see that its store is there and answers") from None


def _read_copy(path: Path, name: str) -> CharacterCosts:
    try:
        return CharacterCosts.read(path)
    except UserError:  # it names the copy, which is gone in a moment
        raise UserError(f"{FILE} of {name} is damaged or of another kind: evaluate that model again") from None
