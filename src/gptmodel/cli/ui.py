"""`gptmodel ui`: browse the experiments in MLflow."""

from contextlib import suppress
from typing import Annotated

import typer

from gptmodel.errors import one_line_errors


@one_line_errors()
def ui(port: Annotated[int, typer.Option(help="Port of this machine to listen on.")] = 5000) -> None:
    """Browse the experiments in MLflow: says the address of the validation curves, and opens it on a desktop.

    Serves the store to this machine until Ctrl-C. Where MLFLOW_TRACKING_URI is a server, it only says the address.
    """
    from gptmodel.tracking import store

    store.require("mlflow")
    from gptmodel.tracking import ui as pages

    address = pages.page(pages.server() or f"http://127.0.0.1:{port}")
    if pages.server():
        typer.echo(address)
        return pages.show(address)
    with suppress(KeyboardInterrupt), pages.serving(port) as running:
        typer.echo(f"{address}\n(Ctrl-C ends)")
        pages.show(address)
        running.wait()
