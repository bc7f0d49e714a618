"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated

from typer import Argument

BundleFolder = Annotated[Path, Argument(metavar="BUNDLE", help="Folder of a bundle: models/NAME/bundle")]
ModelNames = Annotated[list[str] | None, Argument(metavar="MODEL", help="Names under models/; none: all.")]
