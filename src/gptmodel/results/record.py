"""One reader and one writer for every JSON file that a stage leaves."""

from pathlib import Path
from typing import Self

from gptmodel import files
from gptmodel.strict import Strict, parse_json

RERUN = "run `dvc repro`, or `dvc pull`"


class Record(Strict):
    """Base of all records. A file is the record's fields in their order, as indented JSON."""

    @classmethod
    def read(cls, path: Path, remedy: str = RERUN) -> Self:
        """Return the record in a file; `UserError` with the `remedy` where it is missing, damaged or different."""
        return parse_json(cls, path, remedy)

    def write(self, path: Path) -> None:
        """Write the record as a file, whole or not at all."""
        files.write_json(path, self.model_dump(mode="json"))
