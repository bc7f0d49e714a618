"""The life of a server: from the socket to the end of the last request.

SIGTERM and Ctrl-C drain: no connection is accepted any more, what runs or waits is finished, in a limited time.
Source: https://www.uvicorn.org.
"""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from gptmodel.serving.app import build
from gptmodel.serving.service import Service


class Draining(uvicorn.Server):
    """A server that drains on SIGTERM and Ctrl-C, and then ends by returning."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let both signals drain; uvicorn itself would raise them again at the end."""

        def drain(number: int, _: object) -> None:
            self._service.draining = True
            self.handle_exit(number, None)  # a second Ctrl-C does not wait

        before = {number: signal.signal(number, drain) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(service: Service, listening: socket.socket, drain_seconds: int) -> int:
    """Serve until a signal comes and what runs has ended; return how many requests were cut off."""
    config = uvicorn.Config(
        build(service), log_level="error", access_log=False, timeout_graceful_shutdown=drain_seconds, ws="none"
    )
    Draining(config, service).run([listening])
    return service.cut_off
