"""The command line: one file per command; what a command needs is imported when it runs, so that --help is instant.

Text goes to standard output, everything about the run to standard error. Exit code 2 for bad input, with one line.
"""

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gptmodel.cli.compare import compare
from gptmodel.cli.doctor import doctor
from gptmodel.cli.generate import generate
from gptmodel.cli.info import info
from gptmodel.cli.queue import queue
from gptmodel.cli.register import register
from gptmodel.cli.serve import serve
from gptmodel.cli.sync import sync
from gptmodel.cli.ui import ui
from gptmodel.errors import UserError, one_line_errors

USAGE: Any = typer.BadParameter.__base__  # click's UsageError, or that of typer's own copy of click


class Commands(TyperGroup):
    """The commands; a wrong call of one is a line as any other bad input."""

    @one_line_errors()
    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            raise SystemExit(super().main(*arguments, **{**settings, "standalone_mode": False}))
        except USAGE as error:
            message = error.format_message().rstrip(".")
            see = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
            raise UserError(f"{message[0].lower()}{message[1:]}{see}") from None


app = typer.Typer(name="gptmodel", cls=Commands, invoke_without_command=True, pretty_exceptions_enable=False)
for command in (generate, info, compare, serve, doctor, ui, sync, register):
    app.command()(command)
app.command(context_settings={"ignore_unknown_options": True})(queue)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gptmodel {version('gptmodel')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Continue text with a small language model trained on a book."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # French text, whatever the locale; names of files and strings in JSON may be no Unicode.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    app(prog_name="gptmodel")


if __name__ == "__main__":
    main()
