"""`gptmodel queue`: `dvc exp run --queue` for parameters that have been checked.

DVC runs none of the project's code when it queues an experiment: values that no training can have are found only when
the experiment runs. So they are put into a copy of params.yaml here first, by the functions that DVC uses.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from gptmodel import layout
from gptmodel.errors import UserError, one_line_errors


@one_line_errors()
def queue(
    arguments: Annotated[list[str], Argument(metavar="ARGUMENTS", help="As after `dvc exp run --queue`: -S, -n, ...")],
) -> None:
    """Check the parameters of every experiment, then queue them all with `dvc exp run --queue`; or none of them."""
    from gptmodel.tracking import store

    store.require("dvc")
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-S", "--set-param", action="append", default=[])
    check(parser.parse_known_args(arguments)[0].set_param)
    command = [sys.executable, "-m", "dvc", "exp", "run", "--queue", *arguments]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def check(overrides: Sequence[str]) -> None:
    """Check params.yaml with each combination of the values that `-S` gives; `UserError` names the first mistake."""
    from dvc.exceptions import DvcException
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from gptmodel import params, strict

    params.load(layout.PARAMS)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / layout.PARAMS.name
        try:
            for files in get_hydra_sweeps(to_path_overrides(overrides)):
                own = files.get(str(layout.PARAMS), [])
                shutil.copy(layout.PARAMS, copy)
                apply_overrides(copy, own)
                strict.parse(params.Params, strict.read_yaml(copy), Path(f"{layout.PARAMS} with {' '.join(own)}"))
        except (DvcException, HydraException, OmegaConfBaseException) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(f"-S {' -S '.join(overrides)}: {reason} (docs/parameters.md has the keys)") from None
