"""Reading text files of unknown origin: which encoding, and is it text at all.

UTF-8 is taken as it is. Anything else is named by charset-normalizer and converted, or refused with the offset of
the first bad byte: a wrong guess would teach the networks mojibake.
"""

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from gptmodel.errors import UserError

# The default splits give 7.5% each to validation and test, and a 128-token window needs 129 characters:
# 0.075 x 2,000 = 150. Below this no network of params.yaml could be evaluated.
FEWEST_CHARACTERS = 2000

_LARGEST_CHAOS = 0.2  # charset-normalizer's own limit for "probably mojibake"
_LARGEST_CONTROL_SHARE = 0.001
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class DecodedText(NamedTuple):
    """The characters of a file and the encoding they were written in."""

    text: str
    encoding: str


def read_text(path: Path, name: str | None = None) -> DecodedText:
    """Read a text file; `UserError` if it is missing, binary, damaged, or in an encoding nobody can be sure of.

    `name` is what the message calls the file (the path if not given).
    """
    name = name or str(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): check the path and its rights") from None
    decoded = decode(data, name)
    controls = len(_CONTROLS.findall(decoded.text))
    if controls > _LARGEST_CONTROL_SHARE * len(decoded.text):
        raise UserError(f"{name} is a binary file ({controls:,} control characters): save it as plain text (.txt)")
    return decoded


def decode(data: bytes, name: str) -> DecodedText:
    """Decode bytes as UTF-8, or as what charset-normalizer is sure of.

    >>> decode("Où est l'été ?".encode("utf-16"), "page.txt")
    DecodedText(text="Où est l'été ?", encoding='utf_16')
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_other(data, name, error.start)
    if "\x00" in text:
        return _decode_other(data, name, data.index(0))
    return DecodedText(text, "utf-8")


def require_enough(characters: int, name: str) -> None:
    """Refuse a text too short to train on."""
    if characters == 0:
        raise UserError(f"{name} is empty: give it some text (at least {FEWEST_CHARACTERS:,} characters)")
    if characters < FEWEST_CHARACTERS:
        raise UserError(
            f"{name} has only {characters:,} characters: at least {FEWEST_CHARACTERS:,} are needed, "
            "so that the validation and test splits hold one window each; add more text"
        )


def _decode_other(data: bytes, name: str, bad_byte: int) -> DecodedText:
    if data.startswith(_WIDE_MARKS):
        encoding = "utf_32" if data.startswith(_WIDE_MARKS[2:]) else "utf_16"
    else:
        encoding = _detect(data, name, bad_byte)
    try:
        return DecodedText(data.decode(encoding), encoding)
    except UnicodeDecodeError as error:
        raise _refusal(name, error.start, f"it looked like {encoding}") from None


def _detect(data: bytes, name: str, bad_byte: int) -> str:
    from charset_normalizer import from_bytes

    as_utf8 = data.decode("utf-8", "replace")
    damaged = as_utf8.count("\ufffd")
    if damaged and sum(not character.isascii() for character in as_utf8) > 2 * damaged:
        raise _refusal(name, bad_byte, "the rest of the file is UTF-8")
    best = from_bytes(data).best()
    if b"\x00" in data and (best is None or not best.encoding.startswith(("utf_16", "utf_32"))):
        raise UserError(f"{name} is a binary file (byte {data.index(0):,} is zero): save it as plain text (.txt)")
    if best is None or best.chaos > _LARGEST_CHAOS:
        raise _refusal(name, bad_byte, "its encoding could not be told")
    return best.encoding


def _refusal(name: str, bad_byte: int, reason: str) -> UserError:
    return UserError(f"{name} is not UTF-8 (byte {bad_byte:,} is bad; {reason}): save it as UTF-8")
