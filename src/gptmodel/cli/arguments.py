"""Arguments that several commands take, and settings that do not do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gptmodel.errors import UserError

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle: models/NAME/bundle")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


@contextmanager
def settings_as_options() -> Iterator[None]:
    """Name the option where a setting makes no sense: --top-k for top_k."""
    from gptmodel.decoding.sampling import InvalidSetting

    try:
        yield
    except InvalidSetting as error:
        raise UserError(f"--{error.field.replace('_', '-')} {error.reason}") from None
