"""`gptmodel register`: put bundles into MLflow's model registry."""

import typer

from gptmodel.cli.arguments import ModelNames
from gptmodel.errors import one_line_errors


@one_line_errors()
def register(models: ModelNames = None) -> None:
    """Put bundles into MLflow's model registry, as gptmodel-CORPUS-LEVEL; the best has the alias champion.

    `mlflow.pyfunc.load_model("models:/gptmodel-CORPUS-LEVEL@champion")` and `mlflow models serve` then write text.
    """
    from gptmodel.tracking import store

    store.require("mlflow")
    from gptmodel.layout import ModelFolder
    from gptmodel.tracking import registry

    names = models or registry.exported_models()
    lines = registry.register([ModelFolder(name).bundle for name in names])
    for name, line in zip(names, lines, strict=True):
        typer.echo(f"{name}: {line}")
