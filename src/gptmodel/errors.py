"""Errors that a user can mend or has asked for, and how they leave the program: one line, an exit code, no traceback.

Everything else (a bug) keeps its traceback.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSED = {  # what a file system says of a path that a person named or may mend, and the remedy
    errno.EACCES: "change its rights, or run as its owner",
    errno.EPERM: "change its rights, or run as its owner",
    errno.EROFS: "work in a folder that can be written to",
    errno.EEXIST: "a folder is needed there, so move that file away",
    errno.ENOTDIR: "a part of it is a file where a folder is needed, so move that file away",
    errno.EISDIR: "a file is needed there, so move that folder away",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "this link leads back to itself, so remove it",
}
LONGEST = 1000  # characters of a line; of a longer one the middle is left out


class UserError(Exception):
    """Bad input. The message is one line that names the file, key or value, and the remedy."""


class Stopped(BaseException):
    """Work that ended early because signal `signum` asked for it; the message says how far it got and how to go on.

    Like `KeyboardInterrupt`, it passes by those who take an `Exception` for a failure that they can do without.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def one_line(text: str) -> str:
    r"""Return a text as one line for a terminal: what is not printable is escaped, the middle of a long one left out.

    >>> one_line("no model\n called '\x1b[2J'")
    "no model called '\\x1b[2J'"
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 3 :]}"


@contextmanager
def usable_paths() -> Iterator[None]:
    """Turn a path that the file system refuses into a `UserError` with the remedy."""
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename  # of a copy, the second
        if error.errno not in REFUSED or path is None:
            raise
        raise UserError(f"{path} cannot be used ({error.strerror}): {REFUSED[error.errno]}") from None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn bad input, an unusable path, a full or failing disk, SIGTERM or Ctrl-C into one line and an exit code.

    Exit codes: 2 for bad input, paths and disks; 128 + signal for work that was stopped, as shells report it
    (143 for SIGTERM, 130 for Ctrl-C). Never 0: DVC would take a half-trained model for a finished one.
    """
    try:
        with usable_paths(), _signals_raise():
            yield
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in {*NO_ROOM, errno.EIO}:
            raise
        _fail(_disk_trouble(error))
    except Stopped as error:
        print(one_line(str(error)), file=sys.stderr)
        raise SystemExit(128 + error.signum) from None
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept", file=sys.stderr)
        raise SystemExit(130) from None


def end_at_once_by_signals() -> None:
    """Let SIGTERM and Ctrl-C end this process with one line: while it starts or ends, with nothing to clean up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, f"stopped by {signal.Signals(number).name}: nothing was being written\n".encode())
    os._exit(128 + number)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM raise `Stopped`, and Ctrl-C `KeyboardInterrupt`, inside the block; what is ignored stays ignored.

    Python lets only the main thread handle signals: in another one nothing is changed.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, raises in ((signal.SIGTERM, _stop), (signal.SIGINT, signal.default_int_handler)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, raises)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: installed by C code, out of Python's reach


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number, f"stopped by {signal.Signals(number).name}: nothing half-written was kept")


def _disk_trouble(error: OSError) -> str:
    """Say what happened to which file, how many bytes it takes if that is known, and what to do."""
    target = error.filename2 or error.filename  # of a copy, the second
    size = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    where = f"{target}{size}" if target else ""
    if error.errno in NO_ROOM:
        return f"no room left on the disk{where and f' while writing {where}'}: free some space and run it again"
    return f"the disk failed{where and f' at {where}'} ({error.strerror}): check it and run it again"


def _fail(message: str) -> NoReturn:
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(2)
