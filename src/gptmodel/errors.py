"""Errors that a user can mend or has asked for, and how they leave the program: one line, an exit code, no traceback.

Everything else (a bug) keeps its traceback.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

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


class Stopped(Exception):
    """Work that ended early because signal `signum` asked for it; the message says how far it got and how to go on."""

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
    """Turn a `UserError`, a path that cannot be used, a full disk, `Stopped` or Ctrl-C into one line and an exit code.

    Exit codes: 2 for bad input, paths and disks; 128 + signal for work that was stopped, as shells report it
    (143 for SIGTERM, 130 for Ctrl-C). Never 0: DVC would take a half-trained model for a finished one.
    """
    try:
        with usable_paths():
            yield
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        target = error.filename2 or error.filename  # of a copy, the second
        where = f" while writing {target}" if target else ""
        _fail(f"no room left on the disk{where}: free some space and run it again")
    except Stopped as error:
        print(one_line(str(error)), file=sys.stderr)
        raise SystemExit(128 + error.signum) from None
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept", file=sys.stderr)
        raise SystemExit(130) from None


def _fail(message: str) -> NoReturn:
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(2)
