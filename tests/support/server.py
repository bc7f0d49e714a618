"""A server in a thread of this process, whose connections a test can look at, and raw bytes to talk to it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from gptmodel.serving.access import LOCAL, Access
from gptmodel.serving.app import build
from gptmodel.serving.connection import Connection
from gptmodel.serving.service import Service

MOST = 8  # connections


class Threaded:
    """What runs, and where."""

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server = server
        self.port = port

    @property
    def connections(self) -> list[Connection]:
        """Those that are open."""
        return [one for one in list(self.server.server_state.connections) if isinstance(one, Connection)]

    def connect(self) -> socket.socket:
        """Return a new connection, which waits at most some seconds."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def exchange(self, sent: bytes, then_end: bool = False) -> bytes:
        """Send bytes; return what comes until the server closes."""
        with self.connect() as connection:
            connection.sendall(sent)
            if then_end:
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes, or breaks off."""
    received = b""
    try:
        while block := connection.recv(1 << 16):
            received += block
    except ConnectionError:
        pass
    return received


@contextmanager
def threaded(service: Service, seconds: float, access: Access = LOCAL) -> Iterator[Threaded]:
    """Run a server whose clients have `seconds` to send and to read."""
    protocol = partial(Connection, most=MOST, seconds=seconds)
    config = uvicorn.Config(
        build(service, access),
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        log_level="critical",
        timeout_keep_alive=60,  # a client may think for long between two requests
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Threaded(server, listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)
