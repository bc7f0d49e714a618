"""`gptmodel sync`: rebuild MLflow's runs from the DVC outputs."""

import typer

from gptmodel.cli.arguments import ModelNames
from gptmodel.errors import one_line_errors


@one_line_errors()
def sync(models: ModelNames = None) -> None:
    """Rebuild the MLflow runs of models/ from the DVC outputs: what is missing is added, twice adds nothing.

    After `dvc pull`, `dvc exp apply`, stages taken from the cache, or a tracking server that was down.
    """
    from gptmodel.tracking import store

    store.require("mlflow")
    from gptmodel.tracking import sync as rebuilding

    for name in models or rebuilding.trained_models():
        typer.echo(f"{name}: {rebuilding.sync(name)}")
