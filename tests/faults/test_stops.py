"""SIGTERM and Ctrl-C end a stage with one line, whenever they come; the campaign sends them at every call."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest

from gptmodel import files
from gptmodel.errors import Stopped, end_at_once_by_signals, one_line_errors
from tests.support.closure import ROOT
from tests.support.places import clean_environment

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def start(*command: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = clean_environment() | {"PYTHONPATH": path}
    return subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, text=True)


def wait_until_caught(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Wait until the process has a handler of its own."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        (mask,) = (
            line.split()[1] for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line
        )
        if int(mask, 16) >> (number - 1) & 1:
            return
        time.sleep(0.002)
    pytest.fail(f"{number.name} is not handled")


@needs_linux
@pytest.mark.parametrize(("number", "code"), [(SIGTERM, 143), (SIGINT, 130)])
def test_a_stage_that_is_still_starting_ends_with_one_line(number: signal.Signals, code: int) -> None:
    with start("-m", "pipelines.train", "nobody") as process:
        wait_until_caught(process, SIGTERM)  # both come together; Python itself handles SIGINT before
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, f"stopped by {number.name}: nothing was being written\n")


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(SIGTERM, 143, "stopped by SIGTERM: nothing"), (SIGINT, 130, "interrupted: nothing")],
    ids=["SIGTERM", "SIGINT"],
)
@needs_linux
def test_a_stage_at_work_is_stopped_with_one_line_and_clears_up(
    tmp_path: Path, number: signal.Signals, code: int, line: str
) -> None:
    work = (
        "import sys, time; sys.argv[0] = '-m'; import pipelines\n"
        "from pathlib import Path; from gptmodel import errors, files\n"
        "with errors.one_line_errors(), files.whole_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half')\n"
        "    time.sleep(60)"
    )
    with start("-c", work, str(tmp_path / "out")) as process:
        while not list(tmp_path.glob(".*.partial/half")):
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, f"{line} half-written was kept\n")
    assert list(tmp_path.iterdir()) == []


def test_who_hides_failures_does_not_hide_a_stop(tmp_path: Path) -> None:
    def hiding() -> None:
        try:
            os.kill(os.getpid(), SIGTERM)
            time.sleep(10)
        except Exception:
            pytest.fail("the stop was taken for a failure")

    before = signal.getsignal(SIGTERM)
    with pytest.raises(SystemExit) as ended, one_line_errors(), files.whole_file(tmp_path / "a"):
        hiding()
    assert ended.value.code == 143
    assert signal.getsignal(SIGTERM) is before
    assert not issubclass(Stopped, Exception)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As shells do with Ctrl-C for what runs in the background."""
    before = {number: signal.getsignal(number) for number in (SIGTERM, SIGINT)}
    try:
        signal.signal(SIGINT, signal.SIG_IGN)
        end_at_once_by_signals()
        with one_line_errors():
            assert signal.getsignal(SIGINT) is signal.SIG_IGN
        assert signal.getsignal(SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
