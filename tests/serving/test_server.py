"""`gptmodel serve` as its users meet it: over sockets, with good and bad requests, clients that leave, and signals."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gptmodel.decoding.generation import complete
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.runtime.bundle import Bundle
from tests.support.bundles import char_tokenizer, random_network, write

pytestmark = pytest.mark.slow

LONG = 10**8  # tokens; nobody waits for that


class Server:
    """A server in a process of its own, on a free port."""

    def __init__(self, bundle: Path, *options: str) -> None:
        command = [sys.executable, "-m", "gptmodel", "serve", str(bundle), "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        self.said = [self.process.stderr.readline(), self.process.stderr.readline()]
        assert "listening" in self.said[-1], self.said
        self.port = int(self.said[-1].split()[2].rpartition(":")[2])

    def send(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        """Return an answer that is not read yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body)
        return connection.getresponse()

    def get(self, path: str) -> Any:
        return json.loads(self.send("GET", path).read())

    def post(self, **request: Any) -> tuple[int, Any]:
        answer = self.send("POST", "/v1/completions", json.dumps(request).encode())
        return answer.status, json.loads(answer.read())

    def text(self, **request: Any) -> str:
        status, answer = self.post(**request)
        assert status == 200, answer
        return str(answer["choices"][0]["text"])

    def stream(self, **request: Any) -> Iterator[Any]:
        """Yield the events of a stream; the last is the string [DONE]."""
        body = json.dumps({**request, "stream": True}).encode()
        for line in self.send("POST", "/v1/completions", body):
            if line.strip():
                data = line.decode().removeprefix("data: ").strip()
                yield data if data == "[DONE]" else json.loads(data)

    def leave(self, **request: Any) -> None:
        """Send a request, wait until it is decoded, and go away without a word."""
        body = json.dumps({**request, "max_tokens": LONG}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(head + body)
            self.wait_for(running=request.get("n", 1))

    def wait_for(self, **state: int) -> None:
        """Wait until /health says so; an error after some seconds."""
        end = time.monotonic() + 20
        while not state.items() <= (now := self.get("/health")).items():
            assert time.monotonic() < end, now
            time.sleep(0.01)

    def wait_until_nobody_listens(self) -> None:
        """Wait until a connection is refused; an error after some seconds."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                self.get("/health")
            except (ConnectionError, http.client.HTTPException):
                return
            time.sleep(0.02)
        raise AssertionError

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM; return the exit code and the rest of what was said."""
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=20)
        return self.process.returncode, rest


@contextmanager
def running(bundle: Path, *options: str) -> Iterator[Server]:
    server = Server(bundle, *options)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = char_tokenizer()
    return write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    options = ["--max-tokens", str(LONG), "--max-concurrent", "8", "--max-prompt-characters", "500"]
    with running(bundle, *options) as server:
        yield server


def alone(bundle: Path, prompt: str, settings: Settings, samples: int = 1) -> list[str]:
    """Return what `gptmodel generate` writes."""
    loaded = Bundle.load(bundle, "cpu", graph="fp32")
    return [one.text for one in complete(loaded.decoder, loaded.tokenizer, [prompt], settings, samples)]


def test_an_answer_has_openais_form_and_the_text_of_generate(server: Server, bundle: Path) -> None:
    settings = {"temperature": 0.9, "top_k": 7, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 5, "max_tokens": 30}
    status, answer = server.post(model="essai", prompt=["Où", "là-bas"], n=2, stop="île", user="me", **settings)
    assert status == 200
    own = Settings(30, Sampling(0.9, 7, 0.9, 1.2), 5, ("île",))
    expected = [*alone(bundle, "Où", own, 2), *alone(bundle, "là-bas", own, 2)]
    assert [choice["text"] for choice in answer["choices"]] == expected
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert (answer["object"], answer["model"], answer["seed"]) == ("text_completion", "essai", 5)
    assert answer["usage"]["prompt_tokens"] == len("Où") + len("là-bas")
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


def test_what_is_not_given_is_as_in_generate_and_a_drawn_seed_can_be_used_again(server: Server, bundle: Path) -> None:
    _, answer = server.post(prompt="Où")
    assert [answer["choices"][0]["text"]] == alone(bundle, "Où", Settings(200, Sampling(0.8, 0, 0.95), answer["seed"]))
    assert server.post(prompt="Où")[1]["seed"] != answer["seed"]


def test_a_stream_is_the_answer_in_pieces(server: Server) -> None:
    request = {"prompt": "Où", "max_tokens": 400, "seed": 3, "logprobs": 2}
    _, whole = server.post(**request)
    *events, usage, done = server.stream(**request, stream_options={"include_usage": True})
    assert (done, usage["choices"], usage["usage"]) == ("[DONE]", [], whole["usage"])
    pieces = [event["choices"][0] for event in events]
    assert len(pieces) > 1
    assert "".join(piece["text"] for piece in pieces) == whole["choices"][0]["text"]
    for key, values in whole["choices"][0]["logprobs"].items():
        assert [value for piece in pieces for value in piece["logprobs"][key]] == values
        assert len(values) == 400
    assert [piece["finish_reason"] for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]


def test_echo_puts_the_prompt_before_the_text(server: Server) -> None:
    text = server.text(prompt="Où", max_tokens=9, seed=3)
    assert server.text(prompt="Où", max_tokens=9, seed=3, echo=True) == "Où" + text
    *events, _ = server.stream(prompt="Où", max_tokens=9, seed=3, echo=True)
    assert "".join(event["choices"][0]["text"] for event in events) == "Où" + text


def test_a_crowd_gets_the_texts_that_each_gets_alone(server: Server) -> None:
    requests = [{"prompt": "Le vieil"[: 1 + seed % 8], "seed": seed, "max_tokens": 60 + seed} for seed in range(60)]
    with ThreadPoolExecutor(len(requests)) as clients:
        crowd = list(
            clients.map(
                lambda request: "".join(
                    event["choices"][0]["text"] for event in server.stream(**request) if event != "[DONE]"
                ),
                requests,
            )
        )
    assert crowd == [server.text(**request) for request in requests]


MISTAKES: list[tuple[bytes, int, str | None, str]] = [
    (b'{"prompt": "a"', 400, None, "not JSON"),
    (b"\xff\xfe", 400, None, "not JSON"),
    (b"[1]", 400, None, "must be a JSON object"),
    (b'{"prompt": "\\ud800"}', 400, None, "not JSON"),
    (b"{}", 400, "prompt", "must be a string"),
    (b'{"prompt": 3}', 400, "prompt", "must be a string"),
    (b'{"prompt": []}', 400, "prompt", "at least one"),
    (b'{"prompt": [1, 2]}', 400, "prompt", "must be a string"),
    (b'{"prompt": "a", "max_tokens": "9"}', 400, "max_tokens", "valid integer"),
    (b'{"prompt": "a", "max_tokens": 0}', 400, "max_tokens", "1 or above"),
    (b'{"prompt": "a", "max_tokens": 999999999}', 400, "max_tokens", "100000000 or below"),
    (b'{"prompt": "a", "temperature": -1}', 400, "temperature", "0 (the likeliest token) or above"),
    (b'{"prompt": "a", "temperature": NaN}', 400, "temperature", "nan"),
    (b'{"prompt": "a", "temperature": true}', 400, "temperature", "valid number"),
    (b'{"prompt": "a", "top_p": 0}', 400, "top_p", "above 0"),
    (b'{"prompt": "a", "top_k": -1}', 400, "top_k", "0 (all tokens) or above"),
    (b'{"prompt": "a", "repetition_penalty": 0}', 400, "repetition_penalty", "must be between"),
    (b'{"prompt": "a", "seed": -1}', 400, "seed", "greater than or equal to 0"),
    (b'{"prompt": "a", "stop": ""}', 400, "stop", "must not be empty"),
    (b'{"prompt": "a", "stop": [1]}', 400, "stop", "list of at most 16"),
    (b'{"prompt": "a", "stop": "' + b"x" * 201 + b'"}', 400, "stop", "200 characters"),
    (b'{"prompt": "a", "n": 0}', 400, "n", "greater than or equal to 1"),
    (b'{"prompt": "a", "n": 9}', 400, "n", "8 per request"),
    (b'{"prompt": "a", "logprobs": 6}', 400, "logprobs", "less than or equal to 5"),
    (b'{"prompt": "a", "logprobs": 1, "echo": true}', 400, "echo", "do not go together"),
    (b'{"prompt": "a", "stream_options": {}}', 400, "stream_options", "stream: true"),
    (b'{"prompt": "a", "logit_bias": {"5": 1}}', 400, "logit_bias", "logit_bias is not supported here"),
    (b'{"prompt": "a", "presence_penalty": 1}', 400, "presence_penalty", "presence_penalty is not supported here"),
    (b'{"prompt": "a", "frequency_penalty": 0.5}', 400, "frequency_penalty", "frequency_penalty is not supported here"),
    (b'{"prompt": "a", "suffix": "b"}', 400, "suffix", "suffix is not supported here"),
    (b'{"prompt": "a", "best_of": 2}', 400, "best_of", "best_of is not supported here"),
    (b'{"prompt": "a", "best_of": true}', 400, "best_of", "valid integer"),
    (b'{"prompt": "a", "temprature": 1}', 400, "temprature", "not a field"),
    (b'{"prompt": "a", "\\n": 1}', 400, "\\n", "\\n is not a field"),
    (b'{"prompt": "a", "model": "gpt-4"}', 404, "model", "this server has essai"),
    (b'{"prompt": "' + b"a" * 501 + b'"}', 400, "prompt", "501 characters"),
    (b'{"prompt": "' + b"a" * 80_000 + b'"}', 413, None, "too large"),
    (b"[" * 50_000, 400, None, "recursion"),
]


@pytest.mark.parametrize(("body", "status", "param", "phrase"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_named_in_one_line(
    server: Server, body: bytes, status: int, param: str | None, phrase: str
) -> None:
    answer = server.send("POST", "/v1/completions", body)
    error = json.loads(answer.read())["error"]
    assert (answer.status, error["param"]) == (status, param)
    assert phrase in error["message"]
    assert "\n" not in error["message"]
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def test_wrong_paths_and_methods_have_the_same_form(server: Server) -> None:
    for method, path, status in [
        ("GET", "/v1/chat", 404),
        ("GET", "/v1/completions", 405),
        ("GET", "/v1/models/x", 404),
    ]:
        answer = server.send(method, path)
        assert answer.status == status
        assert set(json.loads(answer.read())["error"]) == {"message", "type", "param", "code"}


def test_the_model_is_listed_with_what_one_may_ask_of_it(server: Server) -> None:
    [model] = server.get("/v1/models")["data"]
    assert (model["id"], model["object"], model["graph"]) == ("essai", "model", "fp32")
    assert model["limits"]["max_prompt_characters"] == 500
    assert server.get("/v1/models/essai") == model


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_places(server: Server, stream: bool) -> None:
    before = counted(server, 'requests_total{status="499"}')
    server.leave(prompt="Où", n=8, stream=stream)  # all the places
    server.wait_for(running=0, waiting=0)
    assert len(server.text(prompt="Où", max_tokens=5)) == 5
    assert counted(server, 'requests_total{status="499"}') == before + 1


def counted(server: Server, name: str) -> float:
    """Return a value of /metrics, 0 where there is none yet."""
    lines = server.send("GET", "/metrics").read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"gptmodel_{name}")), 0.0)


def test_metrics_count_requests_tokens_and_times(server: Server) -> None:
    names = ['requests_total{status="200"}', 'requests_total{status="400"}', 'tokens_total{kind="prompt"}']
    names += ['tokens_total{kind="generated"}', "request_seconds_count", "first_token_seconds_count"]
    before = [counted(server, name) for name in names]
    server.text(prompt="Où", max_tokens=7)
    server.post(prompt=1)
    assert [counted(server, name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 2, 7, 1, 1]


def test_what_is_too_much_waits_or_gets_429_and_sigterm_drains(bundle: Path) -> None:
    options = ["--max-concurrent", "2", "--max-queue", "2", "--max-tokens", str(LONG)]
    with running(bundle, *options) as server, ThreadPoolExecutor(4) as clients:
        first = server.stream(prompt="Où", max_tokens=6000, n=2)
        next(first)
        others = [clients.submit(server.text, prompt="Où", max_tokens=50, seed=seed) for seed in range(2)]
        server.wait_for(running=2, waiting=2)
        answer = server.send("POST", "/v1/completions", b'{"prompt": "a"}')
        assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (429, True)
        assert json.loads(answer.read())["error"]["type"] == "rate_limit_error"

        code = clients.submit(server.stop)
        server.wait_until_nobody_listens()
        events = list(first)
        assert events[-1] == "[DONE]"
        assert [len(other.result()) for other in others] == [50, 50]
        assert code.result() == (0, "stopped: all requests were answered\n")


def test_draining_has_a_time_limit(bundle: Path) -> None:
    with running(bundle, "--max-tokens", str(LONG), "--drain-seconds", "1") as server:
        endless = server.stream(prompt="Où", max_tokens=LONG)
        next(endless)
        code, said = server.stop()
    assert code == 0
    assert said.splitlines()[-1] == "stopped: 1 requests were cut off"
