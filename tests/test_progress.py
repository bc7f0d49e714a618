import io
import sys

import pytest

from gptmodel import progress as module
from gptmodel.progress import progress, say


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_elsewhere_than_on_a_terminal_plain_lines_come_at_intervals_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("train", 100, "steps") as update:
        for step in range(1, 101):
            clock.now += 0.25
            update(step, "loss 1.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "train: 40/100 steps, 4.0 steps/s, 15 s left, loss 1.5",
        "train: 80/100 steps, 4.0 steps/s, 5 s left, loss 1.5",
        "train: 100/100 steps, 4.0 steps/s, 0 s left, loss 1.5",
    ]


def test_what_was_done_before_counts_as_done_but_not_for_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("train", 100, "steps", begin=60) as update:
        for step in range(61, 101):
            clock.now += 0.5
            update(step)
    assert capsys.readouterr().err.splitlines() == [
        "train: 80/100 steps, 2.0 steps/s, 10 s left",
        "train: 100/100 steps, 2.0 steps/s, 0 s left",
    ]


def test_a_line_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    say("going on from step 7")
    assert capsys.readouterr() == ("", "going on from step 7\n")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("train", 10, "steps", begin=4) as update:
        update(10, "loss 1.5")
    shown = terminal.getvalue()
    for words in ("train", "10/10", "steps/s", "loss 1.5"):
        assert words in shown
