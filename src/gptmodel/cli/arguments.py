"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle: models/NAME/bundle")]
ModelNames = Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Names under models/; none: all.")]
