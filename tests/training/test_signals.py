"""Signals as requests: real ones, sent by the kernel to this process and to a child."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from gptmodel.errors import Stopped, one_line_errors
from gptmodel.training import signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

WORK = """
import sys, time
from gptmodel.training import signals
from gptmodel.errors import Stopped, one_line_errors
with one_line_errors(), signals.requests() as asked:
    print("ready", flush=True)
    for step in range(1000):
        if asked.signal and "stubborn" not in sys.argv:
            raise Stopped(asked.signal, f"stopped at step {step} by {asked.signal.name}:\\nrun it again")
        if asked.signal:
            print("asked", flush=True)
        time.sleep(0.01)
"""


def child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORK, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_work_with_one_line_and_the_shells_exit_code(number: signal.Signals, code: int) -> None:
    process = child()
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert re.fullmatch(rf"stopped at step \d+ by {number.name}: run it again\n", errors)


def test_a_second_ctrl_c_ends_stubborn_work_at_once() -> None:
    process = child("stubborn")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.startswith("interrupted")
    assert errors.count("\n") == 1


def test_inside_the_block_a_signal_is_noted_and_after_it_the_old_handlers_are_back() -> None:
    old = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with signals.requests() as asked:
        assert asked.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert asked.signal is signal.SIGTERM  # the first one
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == old
    with pytest.raises(ZeroDivisionError), signals.requests():
        _ = 1 / 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == old


def test_another_thread_may_use_the_block_but_installs_nothing() -> None:
    seen = []

    def work() -> None:
        with signals.requests() as asked:
            seen.append((asked.signal, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, signal.getsignal(signal.SIGTERM))]


def test_stopped_work_never_ends_as_a_success() -> None:
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise Stopped(signal.SIGTERM, "stopped")
    assert caught.value.code == 143
