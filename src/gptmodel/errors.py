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
from typing import NoReturn

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UserError(Exception):
    """Bad input. The message is one line that names the file, key or value, and the remedy."""


class Stopped(BaseException):
    """Work that ended early because signal `signum` asked for it; the message says how far it got and how to go on.

    Like `KeyboardInterrupt`, it passes by those who take an `Exception` for a failure that they can do without.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `UserError`, a full or failing disk, SIGTERM or Ctrl-C inside the block into one line and an exit code.

    Exit codes: 2 for bad input or a bad disk; 128 + signal for work that was stopped, as shells report it
    (143 for SIGTERM, 130 for Ctrl-C). Never 0: DVC would take a half-trained model for a finished one.
    """
    try:
        with _stopped_by_sigterm():
            yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in {*NO_ROOM, errno.EIO}:
            raise
        print(f"error: {_disk_trouble(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(128 + error.signum) from None
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept", file=sys.stderr)
        raise SystemExit(130) from None


def end_at_once_by_signals() -> None:
    """Let SIGTERM and Ctrl-C end this process with one line: while it is starting, and there is nothing to clean up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, f"stopped by {signal.Signals(number).name} before it began\n".encode())
    os._exit(128 + number)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Stopped` inside the block (of the main thread, the only one that Python lets handle it)."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: installed by C code, out of Python's reach


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
