"""SIGTERM and Ctrl-C as a request that a loop obeys when it suits it: at its next step, with everything saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from types import FrameType


class Requests:
    """What the operating system, or the person at the keyboard, has asked for so far."""

    def __init__(self) -> None:
        self.signal: Signals | None = None  # the first that arrived; None while the work may go on
        self._interrupted = False

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Note a signal; a second SIGINT raises `KeyboardInterrupt` at once, because the person insists."""
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or number == signal.SIGINT
        self.signal = self.signal or Signals(number)


@contextmanager
def requests() -> Iterator[Requests]:
    """Yield the `Requests` that SIGTERM and SIGINT make inside the block; the old handlers return after it.

    Python lets only the main thread handle signals: in another one nothing is installed and nothing is ever asked.
    """
    asked = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {number: signal.signal(number, asked.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: installed by C code, out of Python's reach
