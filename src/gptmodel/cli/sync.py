"""`gptmodel sync`: rebuild MLflow's runs from the DVC outputs."""

from typing import Annotated

import typer

from gptmodel.errors import one_line_errors


@one_line_errors()
def sync(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Names under models/; none: all.")] = None,
) -> None:
    """Rebuild the MLflow runs of models/ from the DVC outputs: what is missing is added, twice adds nothing.

    After `dvc pull`, `dvc exp apply`, stages taken from the cache, or a tracking server that was down.
    """
    from gptmodel.tracking import store

    store.require("mlflow")
    from gptmodel.tracking import sync as rebuilding

    for name in models or rebuilding.trained_models():
        typer.echo(f"{name}: {rebuilding.sync(name)}")
