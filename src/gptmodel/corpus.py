"""A corpus on disk: what data/raw and data/clean say about their text in corpus.json.

Types, reading and writing only; `gptmodel.catalog` fills data/raw, `gptmodel.cleaning` makes the text of data/clean.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from gptmodel.errors import UserError
from gptmodel.files import write_json, write_text
from gptmodel.strict import Strict, parse

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Language = Literal["fr", "en"]
SplitName = Literal["train", "validation", "test"]
Typography = Literal["fr", "other"]
Folder = TypeVar("Folder", bound=Strict)

DESCRIPTION = "corpus.json"


class Work(Strict):
    """What a text is, who wrote it, and under which licence it may be used."""

    title: str = Field(description="as on the title page")
    author: str | None = Field(description="null if not known")
    year: int | None = Field(description="of the first publication")
    language: Language | None = Field(description="null if not known; then it is guessed")
    licence: str = Field(description="of the text and of its digital edition")
    source: str = Field(description="where the text comes from")


class TextFile(Strict):
    """One file of a corpus."""

    name: str = Field(description="path inside the corpus folder, with /")
    bytes: int = Field(ge=0)
    sha256: Sha256


class FetchedCorpus(Work):
    """data/raw/corpus.json."""

    name: str = Field(description="of the corpus: its key in the catalog, or the name of your own file or folder")
    files: list[TextFile]


class SplitText(Strict):
    """One split of the cleaned text: file NAME.txt."""

    characters: int = Field(ge=0)
    sha256: Sha256


class CleanCorpus(FetchedCorpus):
    """data/clean/corpus.json."""

    typography: Typography = Field(description="fr: French typography was applied")
    characters: int = Field(description="of the cleaned text; the sum of the splits")
    splits: dict[SplitName, SplitText]


def read_fetched(folder: Path) -> FetchedCorpus:
    """Read data/raw/corpus.json; `UserError` if the fetch stage has not run."""
    return _read(folder, FetchedCorpus, "fetch")


def read_clean(folder: Path) -> CleanCorpus:
    """Read data/clean/corpus.json; `UserError` if the clean stage has not run."""
    return _read(folder, CleanCorpus, "clean")


def write_clean(
    folder: Path, corpus: FetchedCorpus, typography: Typography, splits: dict[SplitName, str]
) -> CleanCorpus:
    """Write each split as NAME.txt (an empty one too, so that the paths are always there) and corpus.json."""
    described = CleanCorpus(
        **corpus.model_dump(exclude={"files"}),
        files=corpus.files,
        typography=typography,
        characters=sum(len(text) for text in splits.values()),
        splits={
            name: SplitText(characters=len(text), sha256=hashlib.sha256(text.encode()).hexdigest())
            for name, text in splits.items()
        },
    )
    for name, text in splits.items():
        write_text(folder / f"{name}.txt", text)
    write_json(folder / DESCRIPTION, described.model_dump())
    return described


def _read(folder: Path, kind: type[Folder], stage: str) -> Folder:
    path = folder / DESCRIPTION
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the {stage} stage first (python -m pipelines.{stage})") from None
    except ValueError:
        raise UserError(f"{path} is damaged: run the {stage} stage again (python -m pipelines.{stage})") from None
    return parse(kind, values, path)
