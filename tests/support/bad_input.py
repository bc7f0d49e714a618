"""Bad input: a command, what is wrong, and the one line that it ends with (exit code 2).

tests/cli/test_bad_input.py runs the cases of bad_calls.py and bad_projects.py; docs/errors.md shows them (`make docs`).
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BUNDLE = Path("models/pairs/bundle")
OWN = Path("data/own")
PARAMS = Path("params.yaml")
COPY = "export it again (dvc repro) or copy the whole folder again"
RIGHTS = "cannot be used (Permission denied): change its rights, or run as its owner"
LONG = "x" * 300


class Fault(NamedTuple):
    """One kind of bad input."""

    command: str
    wrong: str  # what is wrong, for a reader
    line: str  # what stands after "error: "
    make: Callable[[], object] = lambda: None  # breaks the project that one is in


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def corpus(value: str) -> Callable[[], None]:
    """Return what sets `corpus:`."""
    return lambda: replace(PARAMS, "corpus: data/own/roman.txt", f"corpus: {value}")


def both(*steps: Callable[[], object]) -> Callable[[], None]:
    def make() -> None:
        for step in steps:
            step()

    return make


def write(path: Path | str, content: str | bytes = "") -> Callable[[], None]:
    def make() -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def cut(path: Path | str, size: int) -> Callable[[], object]:
    """Return what keeps the first bytes of a file only."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:size])


def end_with(path: Path, last: bytes) -> Callable[[], object]:
    """Return what changes the last byte of a file."""
    return lambda: path.write_bytes(path.read_bytes()[: -len(last)] + last)


def forbid(path: Path | str) -> Callable[[], None]:
    """Return what takes away all rights."""
    return lambda: Path(path).chmod(0)


def remove(path: Path | str) -> Callable[[], None]:
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def become_a_file(path: Path | str) -> Callable[[], None]:
    """Return what puts an empty file in the place of a folder."""

    def make() -> None:
        shutil.rmtree(path, ignore_errors=True)
        write(path)()

    return make
