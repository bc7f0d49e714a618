"""One connection: how long it waits for a client, how many there are, and how it ends."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptmodel.serving.limits import Limits
from gptmodel.serving.service import Service
from tests.serving.test_server import LONG, running
from tests.support.bundles import char_tokenizer, random_network, write
from tests.support.server import MOST, Threaded, read_all, threaded

pytestmark = pytest.mark.slow

SECONDS = 0.3  # that a client has
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
ENDLESS = json.dumps({"prompt": "Où", "n": 8, "max_tokens": LONG, "logprobs": 5, "stream": True}).encode()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = char_tokenizer()
    return write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Threaded]:
    service = Service.open(bundle, "cpu", 1, None, Limits(8, 8, LONG, 1000))
    with threaded(service, SECONDS) as server:
        yield server


def wait_for(server: Threaded, count: int) -> None:
    """Wait until so many connections are open."""
    end = time.monotonic() + 10
    while len(server.connections) != count:
        assert time.monotonic() < end
        time.sleep(0.01)


def error(answer: bytes) -> tuple[int, str]:
    """Return status and message of an answer that is an error in OpenAI's form, and closes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"content-type: application/json" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["message"]


def test_small_packets_of_an_accepted_connection_go_out_at_once(server: Threaded) -> None:
    with server.connect():
        wait_for(server, 1)
        [connection] = server.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    wait_for(server, 0)


@pytest.mark.parametrize(
    "part",
    [HEALTH[:-2], HEALTH[:5], HEAD % 100, HEAD % 100 + b'{"prompt": '],
    ids=["headers", "a line", "no body", "half a body"],
)
def test_a_request_that_is_not_whole_in_time_gets_408(server: Threaded, part: bytes) -> None:
    assert error(server.exchange(part)) == (408, "the request was not whole after 20 s")
    wait_for(server, 0)


def test_byte_after_byte_does_not_make_the_time_longer(server: Threaded) -> None:
    with server.connect() as connection:
        started = time.monotonic()
        try:
            while time.monotonic() < started + 10:
                connection.send(b"x")
                time.sleep(SECONDS / 10)
        except ConnectionError:
            pass
        assert time.monotonic() < started + 5
    wait_for(server, 0)


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(server: Threaded) -> None:
    large = b"POST /v1/completions HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 99999999\r\n\r\n"
    assert b" 421 " in server.exchange(large + b"x" * 1000)
    wait_for(server, 0)


def test_a_connection_that_says_nothing_is_closed_without_a_word(server: Threaded) -> None:
    assert server.exchange(b"") == b""


def test_a_client_that_does_not_read_is_cut_off_and_its_places_are_free(server: Threaded) -> None:
    with server.connect() as connection:
        wait_for(server, 1)
        for end in (connection, server.connections[0].transport.get_extra_info("socket")):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(HEAD % len(ENDLESS) + ENDLESS)
        wait_for(server, 0)
    state = json.loads(server.exchange(HEALTH).partition(b"\r\n\r\n")[2])
    assert (state["running"], state["waiting"]) == (0, 0)


def test_so_many_connections_and_no_more(bundle: Path) -> None:
    with threaded(Service.open(bundle, "cpu", 1, None, Limits(8, 8, 100, 1000)), seconds=30) as server:
        held = [server.connect() for _ in range(MOST)]
        wait_for(server, MOST)
        assert error(server.exchange(b"")) == (503, "too many connections: try again later")
        held.pop().close()
        wait_for(server, MOST - 1)
        assert b" 200 " in server.exchange(HEALTH)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_not_http_gets_400(server: Threaded, garbage: bytes) -> None:
    assert error(server.exchange(garbage)) == (400, "Invalid HTTP request received.")


def test_a_client_that_sends_no_more_gets_its_answer(server: Threaded) -> None:
    whole = server.exchange(HEALTH.replace(b"Connection: close\r\n", b""), then_end=True)
    assert b'"status":"ok"' in whole
    assert server.exchange(HEALTH[:20], then_end=True) == b""


def test_half_a_body_does_not_hold_up_the_end_and_is_not_called_answered(bundle: Path) -> None:
    with running(bundle, "--max-tokens", str(LONG)) as server:
        halves = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(3)]
        for half, part in zip(halves, [HEAD % 99 + b"{", HEALTH[:-2], b""], strict=True):
            half.sendall(part)
        whole = server.stream(prompt="Où", max_tokens=1000)
        next(whole)
        code, said = server.stop()
        assert list(whole)[-1] == "[DONE]"
        assert error(read_all(halves[0])) == (503, "the server is shutting down")
        assert (code, said) == (0, "stopped: 1 requests were cut off\n")


def test_what_is_cut_off_at_the_end_leaves_no_traceback(bundle: Path) -> None:
    with running(bundle, "--max-tokens", str(LONG), "--drain-seconds", "0") as server:
        endless = server.stream(prompt="Où", max_tokens=LONG)
        next(endless)
        waiting = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        body = b'{"prompt": "a", "max_tokens": %d}' % LONG
        waiting.sendall(HEAD % len(body) + body)
        server.wait_for(running=2)
        assert server.stop() == (0, "stopped: 2 requests were cut off\n")
        assert error(read_all(waiting)) == (503, "the server is shutting down")


def test_a_second_ctrl_c_does_not_wait(bundle: Path) -> None:
    with running(bundle, "--max-tokens", str(LONG)) as server:
        endless = server.stream(prompt="Où", max_tokens=LONG)
        next(endless)
        server.process.send_signal(signal.SIGINT)
        server.wait_until_nobody_listens()
        server.process.send_signal(signal.SIGINT)
        _, said = server.process.communicate(timeout=10)
        assert (server.process.returncode, said) == (0, "stopped: 1 requests were cut off\n")
