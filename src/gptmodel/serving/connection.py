"""One connection: time limits for what a client sends and reads, room for so many connections, a clean end.

uvicorn waits for ever for the rest of a request and for a client that does not read. Here a request must be whole, and
an answer must be read on, within `SECONDS`; a client that is slower gets 408 or is cut off. Errors have OpenAI's form.

A client that has only closed its sending half (`nc -N`) gets its answer, except to a completion: there the same sign
means that nobody waits any more, and the places go to others.

Source: https://www.uvicorn.org, https://h11.readthedocs.io, RFC 9293 (half-closed connections).
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gptmodel.serving.refused import Refused

SECONDS = 20.0  # to send a request, and to read on
SLOW = Refused(408, f"the request was not whole after {SECONDS:.0f} s")
FULL = Refused(503, "too many connections: try again later")
ENDING = Refused(503, "the server is shutting down")


class Timer:
    """Calls a function some seconds after its start, unless it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], None]) -> None:
        self._later = partial(loop.call_later, seconds, call)
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start, if it does not run already."""
        self._handle = self._handle or self._later()

    def stop(self) -> None:
        """Stop, if it runs."""
        if self._handle:
            self._handle.cancel()
        self._handle = None


class Connection(H11Protocol):
    """uvicorn's protocol for HTTP/1.1, with limits; `most` connections are open at a time."""

    def __init__(self, *arguments: Any, most: int, seconds: float = SECONDS, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most = most
        self._arriving = Timer(self.loop, seconds, self._too_slow)  # a request
        self._unread = Timer(self.loop, seconds, lambda: self.transport.abort())  # an answer

    @property
    def is_arriving(self) -> bool:
        """Whether a request, or the rest of one, is still to come."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    @property
    def is_busy(self) -> bool:
        """Whether a request has no whole answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        # asyncio does this only for sockets that name their protocol; without it an answer waits 40 ms for an ACK
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self._most:
            self.refuse(FULL)
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Go on with the answer to a client that sends no more, unless it is a completion's."""
        if not self.is_busy or self.is_arriving or self.scope["method"] == "POST":
            return None
        self.cycle.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        super().connection_lost(exc)
        self._arriving.stop()
        self._unread.stop()

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        self._unread.start()

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        self._unread.stop()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self.refuse(Refused(400, msg))

    def refuse(self, error: Refused) -> None:
        """Answer with an error and close; the answer that has begun, if one has, is cut off."""
        if self.is_busy:
            self.cycle.disconnected = True  # for the application
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = error.response.model_dump_json().encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=error.status, headers=headers), h11.Data(body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        """Start the clock with the first part of a request, stop it with the last."""
        if self.is_arriving and not self.transport.is_closing():
            self._arriving.start()
        else:
            self._arriving.stop()

    def _too_slow(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:  # it has sent nothing at all
            self.transport.close()
        else:
            self.refuse(SLOW)
