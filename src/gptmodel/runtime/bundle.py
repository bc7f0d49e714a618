"""The folder a user ships: ONNX graphs, tokenizer.json and bundle.json, complete by itself.

The graphs compute the same model in several ways (see `graphs`). bundle.json (`results.bundle.BundleInfo`) says what
the model is and holds the size and SHA-256 of the other files. On load the sizes of all and the hashes of those in use
are checked, so that a truncated copy or a mixed-up folder is one line, not a wrong text.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptmodel import files
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import Decoder
from gptmodel.errors import UserError, usable_paths
from gptmodel.results.bundle import FORMAT, FORMAT_VERSION, BundleInfo, FileEntry
from gptmodel.runtime import graphs
from gptmodel.runtime.graphs import GRAPHS, GraphSpec
from gptmodel.runtime.session import ChosenDevice, CudaNotLoaded, Device
from gptmodel.strict import parse

TOKENIZER = "tokenizer.json"
INFO = "bundle.json"
REMEDY = "export it again (dvc repro) or copy the whole folder again"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: what continues text."""

    path: Path
    info: BundleInfo
    tokenizer: Tokenizer
    graph: str  # name of the graph that runs
    device: ChosenDevice
    threads: int
    decoder: Decoder

    @classmethod
    @usable_paths()
    def load(
        cls, path: Path, device: Device = "auto", threads: int = 1, graph: str | None = None, exact: bool = False
    ) -> "Bundle":
        """Check and open a bundle; `UserError` names the file that is missing, altered or of another kind.

        `path` is its folder, or models/NAME, which holds it. `graph` names the graph to run; default: the fastest that
        the bundle has for the device; with `exact`, of those with torch's logits (neither int8 nor fp16).
        """
        folder = find(path)
        info = read_info(folder)
        spec, chosen = graphs.choose(device, info.graphs, graph, exact)
        try:
            return cls._open(folder, info, spec, chosen, threads)
        except CudaNotLoaded:
            if device != "auto":
                raise
        spec, chosen = graphs.choose("cpu", info.graphs, graph, exact)
        return cls._open(folder, info, spec, chosen, threads)

    @classmethod
    def _open(cls, folder: Path, info: BundleInfo, spec: GraphSpec, device: ChosenDevice, threads: int) -> "Bundle":
        check(folder, info, [TOKENIZER, *spec.files])
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        decoder = spec.open(folder, info.context, device, threads)
        sizes = {TOKENIZER: tokenizer.vocab_size, spec.file: decoder.vocab_size}
        for name, size in sizes.items():
            if size != info.vocab_size:
                raise UserError(f"{folder / name} has {size} tokens, {INFO} says {info.vocab_size}: {REMEDY}")
        return cls(folder, info, tokenizer, spec.name, device, threads, decoder)


@usable_paths()
def find(path: Path) -> Path:
    """Return the folder of the bundle that `path` names: itself, or `path`/bundle where that holds one."""
    inside = path / "bundle"
    return inside if (inside / INFO).is_file() and not (path / INFO).exists() else path


@usable_paths()
def read_info(path: Path) -> BundleInfo:
    """Return bundle.json after checking it, and that the files that it names are there in full length."""
    info = _parse(path)
    if "portable" not in info.graphs or not set(info.graphs) <= set(GRAPHS):
        raise UserError(f"{path / INFO}: graphs must be some of {', '.join(GRAPHS)}, with portable: {REMEDY}")
    for name in dict.fromkeys([TOKENIZER, *(file for graph in info.graphs for file in GRAPHS[graph].files)]):
        size = _entry(path, info, name).bytes
        found = _existing(path / name).stat().st_size
        if found != size:
            raise UserError(f"{path / name} has {found:,} bytes instead of {size:,} (a broken copy?): {REMEDY}")
    return info


@usable_paths()
def check(path: Path, info: BundleInfo, names: Iterable[str] | None = None) -> None:
    """Check files of a bundle (default: all that it names) against their SHA-256; `UserError` if one differs."""
    for name in info.files if names is None else names:
        if files.sha256(_existing(path / name)) != _entry(path, info, name).sha256:
            raise UserError(f"{path / name} was altered (its SHA-256 differs from {INFO}): {REMEDY}")


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and hash of every file in a folder, for the bundle.json that will be written beside them."""
    return {
        path.relative_to(folder).as_posix(): FileEntry(bytes=path.stat().st_size, sha256=files.sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _parse(path: Path) -> BundleInfo:
    file = path / INFO
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: name that of a bundle (models/NAME/bundle), or run `dvc pull`")
    if not file.is_file():
        raise UserError(
            f"{file} does not exist, so {path} is no bundle: name models/NAME or its bundle/, or make one (`dvc repro`)"
        )
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise UserError(f"{file} is damaged ({error}): {REMEDY}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{file} does not describe a gptmodel bundle: name a folder written by the export stage")
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{file} has format_version {version}, this gptmodel reads {FORMAT_VERSION}:"
            " install the version of gptmodel that wrote it, or export the model again"
        )
    try:
        return parse(BundleInfo, values, file)
    except UserError as error:
        raise UserError(f"{error}: {REMEDY}") from None


def _entry(path: Path, info: BundleInfo, name: str) -> FileEntry:
    if name not in info.files:
        raise UserError(f"{path / INFO} has no size and sha256 of {name}: {REMEDY}")
    return info.files[name]


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise UserError(f"{file} does not exist: {REMEDY}")
    return file
