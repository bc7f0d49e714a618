import errno
import os

import pytest

from gptmodel.errors import LONGEST, REFUSED, UserError, one_line_errors


@pytest.mark.parametrize("number", REFUSED)
def test_a_path_that_cannot_be_used_is_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise OSError(number, os.strerror(number), "models/x")
    assert ended.value.code == 2
    assert capsys.readouterr().err == (f"error: models/x cannot be used ({os.strerror(number)}): {REFUSED[number]}\n")


def test_other_errors_of_the_system_keep_their_traceback() -> None:
    for error in (OSError(errno.EBADF, "Bad file descriptor", "x"), OSError(errno.EACCES, "no file is named")):
        with pytest.raises(OSError, match=str(error.strerror)), one_line_errors():
            raise error


def test_a_message_is_one_printable_line_of_bounded_length(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        raise UserError("\x1b[2J\udcff " + "wide \n" * 100_000 + "the remedy")
    line = capsys.readouterr().err
    assert line.startswith(r"error: \x1b[2J\udcff wide wide")
    assert line.endswith("the remedy\n")
    assert len(line) < LONGEST + 20
