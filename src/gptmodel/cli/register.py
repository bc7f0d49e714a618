"""`gptmodel register`: the command, which runs `tracking.registry` in a process of its own."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from gptmodel.errors import UserError, one_line_errors


@one_line_errors()
def register(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Names under models/; none: all.")] = None,
) -> None:
    """Put bundles into MLflow's model registry, as gptmodel-CORPUS-LEVEL; the best has the alias champion.

    `mlflow.pyfunc.load_model("models:/gptmodel-CORPUS-LEVEL@champion")` and `mlflow models serve` then write text.
    """
    if find_spec("mlflow") is None:
        raise UserError("mlflow is not installed: pip install 'gptmodel[pipeline]'")
    command = [sys.executable, "-m", "gptmodel.tracking.registry", *(models or [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
