"""The command line: one file per command; what a command needs is imported when it runs, so that --help is instant.

Text goes to standard output, everything about the run to standard error. Exit code 2 for bad input, with one line.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from gptmodel.cli.compare import compare
from gptmodel.cli.doctor import doctor
from gptmodel.cli.generate import generate
from gptmodel.cli.info import info
from gptmodel.cli.queue import queue
from gptmodel.cli.register import register
from gptmodel.cli.serve import serve
from gptmodel.cli.sync import sync

app = typer.Typer(name="gptmodel", no_args_is_help=True, pretty_exceptions_enable=False)
for command in (generate, info, compare, serve, doctor, sync, register):
    app.command()(command)
app.command(context_settings={"ignore_unknown_options": True})(queue)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gptmodel {version('gptmodel')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Continue text with a small language model trained on a book."""


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # French text, whatever the locale
    app()


if __name__ == "__main__":
    main()
