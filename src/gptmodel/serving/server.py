"""The life of a server: from the socket to the end of the last request.

SIGTERM and Ctrl-C drain: no connection is accepted any more, what runs or waits is finished, in a limited time. A
second Ctrl-C does not wait.

Source: https://www.uvicorn.org.
"""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from gptmodel.serving.access import Access
from gptmodel.serving.app import build
from gptmodel.serving.connection import ENDING, Connection
from gptmodel.serving.service import Service

# of every answer; a page's own policy comes on top
HEADERS = [("x-content-type-options", "nosniff"), ("content-security-policy", "frame-ancestors 'none'")]
LAST_SECONDS = 5  # for what is cut off to end
SPARE_FILES = 64


class Draining(uvicorn.Server):
    """A server that drains on SIGTERM and Ctrl-C, and then ends by returning."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service = service
        self._drain_seconds = drain_seconds

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `signals` does it, from before anybody knows of the server. uvicorn's would raise them again."""
        yield

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Let both signals drain inside the block."""

        def drain(number: int, _: object) -> None:
            if self.should_exit and number == signal.SIGINT:
                self._drain_seconds = 0
            self._service.draining = self.should_exit = True

        before = {number: signal.signal(number, drain) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is asked; cut off what takes too long, or is not even asked wholly."""
        self._cut_off([connection for connection in self._busy if connection.is_arriving])
        limit = asyncio.create_task(self._limit())
        await super().shutdown(sockets)
        limit.cancel()

    @property
    def _busy(self) -> list[Connection]:
        connections = [one for one in self.server_state.connections if isinstance(one, Connection)]
        return [connection for connection in connections if connection.is_busy]

    async def _limit(self) -> None:
        started = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < started + self._drain_seconds:  # a signal may shorten it
            await asyncio.sleep(0.1)
        self._cut_off(self._busy)

    def _cut_off(self, connections: list[Connection]) -> None:
        for connection in connections:
            self._service.cut_off += 1
            connection.refuse(ENDING)


def run(
    service: Service, listening: socket.socket, drain_seconds: int, access: Access, announce: Callable[[], None]
) -> int:
    """Announce, serve until a signal comes and what runs has ended; return how many requests were cut off."""
    config = uvicorn.Config(
        build(service, access),
        http=partial(Connection, most=min(service.limits.connections, _files() - SPARE_FILES)),  # type: ignore[arg-type]
        ws="none",
        headers=HEADERS,
        server_header=False,
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=drain_seconds + LAST_SECONDS,
    )
    server = Draining(config, service, drain_seconds)
    with server.signals():
        announce()
        gc.collect()
        gc.freeze()  # what is here stays; to look through it again and again would hold up everybody
        server.run([listening])
    return service.cut_off


def _files() -> int:
    """Return how many files and connections this process may open; Windows does not say."""
    try:
        import resource
    except ModuleNotFoundError:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
