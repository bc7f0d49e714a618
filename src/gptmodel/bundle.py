"""The folder a user ships: model.onnx, tokenizer.json and bundle.json, complete by itself.

bundle.json says what the model is, what it was trained on and how good it is, and holds the size and SHA-256 of the
other files; all of it is checked on load, so that a truncated copy or a mixed-up folder is one line, not a wrong text.

Left out on purpose: how a bundle comes to be (`onnx_graph`, `parity`); this module needs no torch, onnx or pydantic.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin

from gptmodel import files
from gptmodel.errors import UserError
from gptmodel.onnx_decoder import Device, OnnxDecoder
from gptmodel.tokenizer import Tokenizer

FORMAT, FORMAT_VERSION = "gptmodel-bundle", 1
MODEL, TOKENIZER, INFO = "model.onnx", "tokenizer.json", "bundle.json"
ASK = "export it again (dvc repro) or copy the whole folder again"


@dataclass(frozen=True)
class Info:
    """bundle.json, less the hashes of the files beside it."""

    variant: str
    level: str  # char, word or bpe
    context: int  # tokens the model looks back on (1 for a bigram)
    vocab_size: int
    network: Mapping[str, Any]  # kind and sizes, as in params.yaml
    parameters: int
    corpus: Mapping[str, Any]  # name, title, author, licence, language
    metrics: Mapping[str, Any]  # of the evaluate stage
    parity: Mapping[str, Any]  # differences between torch and ONNX Runtime
    versions: Mapping[str, str]  # of gptmodel, torch, onnx and onnxruntime at export
    best_step: int
    fingerprint: str


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: what continues text."""

    path: Path
    info: Info
    tokenizer: Tokenizer
    decoder: OnnxDecoder

    @classmethod
    def load(cls, path: Path, device: Device = "auto", threads: int = 1) -> "Bundle":
        """Check and open a bundle; `UserError` names the file that is missing, altered or of another kind."""
        info = read_info(path)
        tokenizer = Tokenizer.load(path / TOKENIZER)
        decoder = OnnxDecoder(path / MODEL, info.context, device, threads)
        sizes = {TOKENIZER: tokenizer.vocab_size, MODEL: decoder.vocab_size}
        for name, size in sizes.items():
            if size != info.vocab_size:
                raise UserError(f"{path / name} has {size} tokens, {INFO} says {info.vocab_size}: {ASK}")
        return cls(path, info, tokenizer, decoder)


def write(path: Path, model: bytes, tokenizer: Path, info: Info) -> None:
    """Write a bundle whole or not at all; an older one at `path` is replaced."""
    with files.whole_folder(path) as partial:
        (partial / MODEL).write_bytes(model)
        (partial / TOKENIZER).write_bytes(tokenizer.read_bytes())
        entries = {name: _entry(partial / name) for name in (MODEL, TOKENIZER)}
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        files.write_json(partial / INFO, head | asdict(info) | {"files": entries})


def read_info(path: Path) -> Info:
    """Return bundle.json after checking it and the files that it names against their sizes and hashes."""
    values = _read_json(path)
    if values.get("format") != FORMAT:
        raise UserError(f"{path / INFO} does not describe a gptmodel bundle: name a folder written by the export stage")
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path / INFO} has format_version {version}, this gptmodel reads {FORMAT_VERSION}:"
            " install the version of gptmodel that wrote it, or export the model again"
        )
    for name in (MODEL, TOKENIZER):
        _check_file(path / name, values.get("files"))
    for field in fields(Info):
        kind: Any = get_origin(field.type) or field.type
        if not isinstance(values.get(field.name), kind):
            raise UserError(f"{path / INFO}: {field.name} is missing or not of type {kind.__name__}: {ASK}")
    return Info(**{field.name: values[field.name] for field in fields(Info)})


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: name the folder of a bundle, such as models/gpt-char/bundle")
    try:
        values = json.loads((path / INFO).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path / INFO} does not exist, so {path} is no bundle: name a bundle or {ASK}") from None
    except ValueError as error:  # not UTF-8, or not JSON
        raise UserError(f"{path / INFO} is damaged ({error}): {ASK}") from None
    return values if isinstance(values, dict) else {}


def _entry(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": files.sha256(file)}


def _check_file(file: Path, entries: Any) -> None:
    match entries:
        case {file.name: {"bytes": int(size), "sha256": str(digest)}}:
            pass
        case _:
            raise UserError(f"{file.parent / INFO} has no size and sha256 of {file.name}: {ASK}")
    if not file.is_file():
        raise UserError(f"{file} does not exist: {ASK}")
    if file.stat().st_size != size:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes instead of {size:,} (a broken copy?): {ASK}")
    if files.sha256(file) != digest:
        raise UserError(f"{file} was altered (its SHA-256 differs from {INFO}): {ASK}")
