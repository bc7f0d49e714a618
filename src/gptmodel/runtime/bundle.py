"""The folder a user ships: ONNX graphs, tokenizer.json and bundle.json, complete by itself.

The graphs compute the same model in several ways (see `variants`); loading takes the best for the device. bundle.json
says what the model is, what it was trained on and how good it is, how close each graph is to torch, and holds the size
and SHA-256 of the other files. On load the sizes of all and the hashes of those in use are checked, so that a truncated
copy or a mixed-up folder is one line, not a wrong text.

Left out on purpose: how a bundle comes to be (`export`); this module needs no torch, onnx or pydantic.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptmodel import files
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import Decoder
from gptmodel.errors import UserError
from gptmodel.results.bundle import FORMAT, FORMAT_VERSION, BundleInfo, FileEntry
from gptmodel.runtime import graphs
from gptmodel.runtime.session import CudaNotLoaded, Device, Place
from gptmodel.strict import parse

MODEL, TOKENIZER, INFO = graphs.GRAPHS["portable"].file, "tokenizer.json", "bundle.json"
ASK = "export it again (dvc repro) or copy the whole folder again"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: what continues text."""

    path: Path
    info: BundleInfo
    tokenizer: Tokenizer
    graph: str  # name of the graph that runs
    place: Place
    threads: int
    decoder: Decoder

    @classmethod
    def load(cls, path: Path, device: Device = "auto", threads: int = 1, graph: str | None = None) -> "Bundle":
        """Check and open a bundle; `UserError` names the file that is missing, altered or of another kind.

        `graph` names the graph to run; default: the fastest that the bundle has for the device.
        """
        info = read_info(path)
        name, place = graphs.choose(device, info.graphs, graph)
        check(path, [TOKENIZER, *graphs.GRAPHS[name].files])
        tokenizer = Tokenizer.load(path / TOKENIZER)
        try:
            decoder = graphs.GRAPHS[name].open(path, info.context, place, threads)
        except CudaNotLoaded:
            if device != "auto":
                raise
            return cls.load(path, "cpu", threads, graph)
        sizes = {TOKENIZER: tokenizer.vocab_size, graphs.GRAPHS[name].file: decoder.vocab_size}
        for part, size in sizes.items():
            if size != info.vocab_size:
                raise UserError(f"{path / part} has {size} tokens, {INFO} says {info.vocab_size}: {ASK}")
        return cls(path, info, tokenizer, name, place, threads, decoder)


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and hash of every file in a folder, for the bundle.json that will be written beside them."""
    return {
        path.relative_to(folder).as_posix(): FileEntry(bytes=path.stat().st_size, sha256=files.sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_info(path: Path) -> BundleInfo:
    """Return bundle.json after checking it, and that the files that it names are there in full length."""
    values = _read_json(path)
    if values.get("format") != FORMAT:
        raise UserError(f"{path / INFO} does not describe a gptmodel bundle: name a folder written by the export stage")
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path / INFO} has format_version {version}, this gptmodel reads {FORMAT_VERSION}:"
            " install the version of gptmodel that wrote it, or export the model again"
        )
    info = parse(BundleInfo, values, path / INFO)
    if "portable" not in info.graphs or not set(info.graphs) <= set(graphs.GRAPHS):
        raise UserError(f"{path / INFO}: graphs must be some of {', '.join(graphs.GRAPHS)}, with portable: {ASK}")
    for name in [TOKENIZER, *dict.fromkeys(file for graph in info.graphs for file in graphs.GRAPHS[graph].files)]:
        size, _ = _entry(path, values, name)
        if not (path / name).is_file():
            raise UserError(f"{path / name} does not exist: {ASK}")
        if (path / name).stat().st_size != size:
            found = (path / name).stat().st_size
            raise UserError(f"{path / name} has {found:,} bytes instead of {size:,} (a broken copy?): {ASK}")
    return info


def check(path: Path, names: Iterable[str] | None = None) -> None:
    """Check files of a bundle (default: all that bundle.json names) against their SHA-256; `UserError` if unequal."""
    values = _read_json(path)
    for name in values["files"] if names is None else names:
        _, digest = _entry(path, values, name)
        if not (path / name).is_file():
            raise UserError(f"{path / name} does not exist: {ASK}")
        if files.sha256(path / name) != digest:
            raise UserError(f"{path / name} was altered (its SHA-256 differs from {INFO}): {ASK}")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: name that of a bundle (models/NAME/bundle), or run `dvc pull`")
    try:
        values = json.loads((path / INFO).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path / INFO} does not exist, so {path} is no bundle: name a bundle or {ASK}") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise UserError(f"{path / INFO} is damaged ({error}): {ASK}") from None
    return values if isinstance(values, dict) else {}


def _entry(path: Path, values: dict[str, Any], name: str) -> tuple[int, str]:
    """Return the size and the hash that bundle.json gives for a file."""
    entries = values.get("files")
    match entries.get(name) if isinstance(entries, dict) else None:
        case {"bytes": int(size), "sha256": str(digest)}:
            return size, digest
        case _:
            raise UserError(f"{path / INFO} has no size and sha256 of {name}: {ASK}")
