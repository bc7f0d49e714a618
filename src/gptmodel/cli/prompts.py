"""Prompts as a person gives them: as arguments, in a file, or on standard input."""

import sys
from pathlib import Path

from gptmodel.errors import UserError


def read(given: list[str], file: Path | None) -> list[str]:
    """Return the prompts; `UserError` where there are none, or they are not UTF-8."""
    if given and file:
        raise UserError("give prompts as arguments or with --prompts-file, not both")
    if file:
        lines = [line for line in _decode(_read(file), str(file)).split("\n") if line.strip()]
        if not lines:
            raise UserError(f"{file} holds no prompt: write one per line")
        return lines
    if given in ([], ["-"]):
        return [""] if sys.stdin.isatty() else [_decode(sys.stdin.buffer.read(), "standard input").removesuffix("\n")]
    for number, prompt in enumerate(given, 1):
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise UserError(f"prompt {number} is not UTF-8: pass it through a file with --prompts-file")
    return given


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): name a text file with one prompt per line"
        ) from None


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
