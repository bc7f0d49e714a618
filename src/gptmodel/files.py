"""Files that are either whole or absent: written beside the target, flushed to disk, then renamed over it.

A crash, a kill, a power cut or a full disk leaves the old content (or nothing), never half of the new one. What a
killed writer leaves beside the target, the next writer in that folder removes. Inside the block of a `whole_folder`
everything is written plainly: the folder around it is what is whole.
Source of the order of steps: Pillai et al. (OSDI 2014), "All file systems are not created equal".
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

_BLOCK = 1 << 20
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]+\.(partial|old)")  # .NAME.TOKEN.partial
_CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EPERM}  # the kernel, the file system, a sandbox


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file; it takes the place of `path` when the block succeeds."""
    with _naming(path):
        if _is_in_whole_folder(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
            return
        with _temporary(path, lambda partial: partial.touch(exist_ok=False)) as partial:
            yield partial
            _flush(partial)
            partial.replace(path)
            _flush(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield the path of an empty temporary folder; it takes the place of `path` when the block succeeds."""
    with _naming(path):
        if _is_in_whole_folder(path):
            path.mkdir(parents=True)
            yield path
            return
        with _temporary(path, Path.mkdir) as partial:
            yield partial
            for inside in [*partial.rglob("*"), partial]:
                _flush(inside)
            if not path.exists():
                partial.replace(path)
            elif not _exchange(partial, path):
                old = partial.with_suffix(".old")
                path.replace(old)
                partial.replace(path)
                old.replace(partial)
            _flush(path.parent)  # before the old one goes: a power cut must not bring back half of it


def make_folder(folder: Path) -> None:
    """Make a folder and those around it, as far as they are missing, and wait until their names are on the disk."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        _flush(each.parent)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content`; an error names the file and says how many bytes it takes."""
    with whole_file(path) as partial:
        try:
            partial.write_bytes(content)
        except OSError as error:
            error.add_note(f"{len(content):,} bytes")
            raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with its line ends untouched."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON (accents readable, keys in the order given), ending in a line feed."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, reading it block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def final(path: Path) -> Path:
    """Return the path that a temporary one will have.

    >>> final(Path("models/.bundle.3f9a.partial/model.onnx")).as_posix()
    'models/bundle/model.onnx'
    """
    return Path(*(_TEMPORARY.sub(r"\1", part) for part in path.parts))


@contextmanager
def _temporary(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new file or folder beside `path`, locked while this process lives, and remove what is left of it."""
    make_folder(path.parent)
    _sweep(path.parent)
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        make(partial)
        try:
            with _locked(partial, wait=True):
                if partial.exists():  # else another process took it, not yet locked, for a dead one's
                    yield partial
                    return
        finally:
            _remove(partial)


def _sweep(folder: Path) -> None:
    """Remove what dead writers left: the kernel frees a lock when its holder dies, and no process id is believed."""
    for path in folder.glob(".*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and match[2] == "old" and path.with_name(match[1]).exists():
            _remove(path)
        elif match and match[2] == "partial":
            with suppress(OSError), _locked(path, wait=False) as is_locked:
                if is_locked:
                    _remove(path)


@contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file or folder inside the block; yield whether it could be had."""
    if sys.platform == "win32":
        yield False
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        is_locked = False
        with suppress(OSError):  # a living writer has it, or the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_locked = True
        yield is_locked
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths trade their names in one step; False where the system or the file system cannot (Linux can)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: man 2 renameat2
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _remove(path: Path) -> None:
    """Remove a file or a folder as far as possible: what stays, the next writer tries again."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists() or path.is_symlink():
        with suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk (folders: on POSIX, if the file system can)."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # EINVAL: some network file systems, of a folder
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error name the file that it is about: writing and flushing do not know it, temporary names help nobody."""
    try:
        yield
    except OSError as error:
        about = error.filename2 or error.filename  # of a copy, the second
        error.filename, error.filename2 = str(final(Path(about)) if isinstance(about, str) else path), None
        raise


def _is_in_whole_folder(path: Path) -> bool:
    return any(_TEMPORARY.fullmatch(parent.name) for parent in path.parents)
