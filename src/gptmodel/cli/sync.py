"""`gptmodel sync`: the command, which runs `tracking.sync` in a process of its own."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from gptmodel.errors import UserError, one_line_errors


@one_line_errors()
def sync(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Names under models/; none: all.")] = None,
) -> None:
    """Rebuild the MLflow runs of models/ from the DVC outputs: what is missing is added, twice adds nothing.

    After `dvc pull`, `dvc exp apply`, stages taken from the cache, or a tracking server that was down.
    """
    if find_spec("mlflow") is None:
        raise UserError("mlflow is not installed: pip install 'gptmodel[pipeline]'")
    command = [sys.executable, "-m", "gptmodel.tracking.sync", *(models or [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
