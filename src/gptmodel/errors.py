"""Errors that a user can mend or has asked for, and how they leave the program: one line, an exit code, no traceback.

Everything else (a bug) keeps its traceback.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UserError(Exception):
    """Bad input. The message is one line that names the file, key or value, and the remedy."""


class Stopped(Exception):
    """Work that ended early because signal `signum` asked for it; the message says how far it got and how to go on."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `UserError`, a full disk, `Stopped` or Ctrl-C inside the block into one line and an exit code.

    Exit codes: 2 for bad input or a full disk; 128 + signal for work that was stopped, as shells report it
    (143 for SIGTERM, 130 for Ctrl-C). Never 0: DVC would take a half-trained model for a finished one.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        target = error.filename2 or error.filename  # of a copy, the second
        where = f" while writing {target}" if target else ""
        print(f"error: no room left on the disk{where}: free some space and run it again", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(128 + error.signum) from None
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept", file=sys.stderr)
        raise SystemExit(130) from None
