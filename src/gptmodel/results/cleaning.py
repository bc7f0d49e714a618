"""What the stage clean says about its work: cleaning.json."""

from pydantic import Field

from gptmodel.results.corpus import Typography
from gptmodel.results.record import Record


class CleanedFile(Record):
    """Size and encoding of one raw file, before and after."""

    name: str
    encoding: str
    characters_before: int
    characters_after: int


class RuleFigures(Record):
    """What one rule did, over all files."""

    on: bool = Field(description="its switch is on, and the text is French if it is a French rule")
    changes: int
    length_change: int = Field(description="in characters; negative: the text became shorter")


class Cleaning(Record):
    """cleaning.json."""

    typography: Typography = Field(description="fr: French typography was applied")
    characters_before: int
    characters_after: int
    files: list[CleanedFile]
    rules: dict[str, RuleFigures]
