"""A service without sockets: errors inside, the end, and what must not hold up the event loop."""

import asyncio
import json
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import ValidationError

from gptmodel.arrays import Logits
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import DecoderSlots
from gptmodel.runtime.bundle import Bundle
from gptmodel.serving.app import build
from gptmodel.serving.limits import Limits
from gptmodel.serving.scheduler import Scheduler, TextBatch
from gptmodel.serving.server import Draining
from gptmodel.serving.service import Service
from gptmodel.serving.wire import CompletionRequest, CompletionResponse
from tests.support.bundles import char_tokenizer, random_network, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = char_tokenizer()
    return write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)


class Broken(DecoderSlots):
    """Slots without a device under them, after the first turn."""

    turns = 0

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        self.turns += 1
        if self.turns > 1:
            raise RuntimeError("device lost")
        return super().feed(windows, fresh)


async def call(service: Service, **request: Any) -> tuple[int, str]:
    """Return status and body of the application's answer, without a socket."""
    sent: list[Any] = []
    received = iter([{"type": "http.request", "body": json.dumps(request).encode(), "more_body": False}])

    async def receive() -> Any:
        return next(received, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], "query_string": b""}
    await build(service)(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


def test_an_error_inside_ends_a_request_and_not_the_server(bundle: Path) -> None:
    loaded = Bundle.load(bundle, "cpu", graph="fp32")
    slots = Broken(loaded.decoder, 2)
    service = Service(loaded, Limits(2, 2, 100, 100), Scheduler(TextBatch(slots, loaded.tokenizer), 2))

    async def story() -> None:
        running = asyncio.create_task(service.scheduler.run())
        status, body = await call(service, prompt="Où", max_tokens=9)
        assert (status, json.loads(body)["error"]["type"]) == (500, "server_error")
        slots.turns = 0
        status, body = await call(service, prompt="Où", max_tokens=9, stream=True)
        assert (status, "[DONE]" in body) == (200, False)
        assert "the server's log says why" in json.loads(body.split("data: ")[-1])["error"]["message"]
        slots.turns = -100
        status, body = await call(service, prompt="Où", max_tokens=9)
        assert (status, len(json.loads(body)["choices"][0]["text"])) == (200, 9)
        counts = [line for line in service.metrics.text().decode().splitlines() if "requests_total{" in line]
        assert counts == ['gptmodel_requests_total{status="500"} 2.0', 'gptmodel_requests_total{status="200"} 1.0']
        running.cancel()

    asyncio.run(story())


def test_a_prompt_is_encoded_once_and_never_on_the_event_loop(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service.open(bundle, "cpu", 1, None, Limits(8, 8, 100, 100_000))
    encoded: list[tuple[str, threading.Thread]] = []
    written: list[threading.Thread] = []
    encode, dump = Tokenizer.encode, CompletionResponse.model_dump_json

    def watched_encode(self: Tokenizer, text: str) -> Any:
        encoded.append((text, threading.current_thread()))
        return encode(self, text)

    def watched_dump(self: CompletionResponse, **options: Any) -> str:
        written.append(threading.current_thread())
        return dump(self, **options)

    monkeypatch.setattr(Tokenizer, "encode", watched_encode)
    monkeypatch.setattr(CompletionResponse, "model_dump_json", watched_dump)
    strange = "".join(map(chr, range(0x4E00, 0x4E00 + 10_000)))  # characters that the model never saw

    async def story() -> None:
        running = asyncio.create_task(service.scheduler.run())
        status, _ = await call(service, prompt=["Où" + strange, "là"], n=4, max_tokens=2)
        assert status == 200
        running.cancel()

    asyncio.run(story())
    assert [text for text, _ in encoded] == ["Où", "là"]
    assert len(written) == 1
    assert threading.main_thread() not in {*written, *(thread for _, thread in encoded)}


MANY = [1] * 50_000


@pytest.mark.parametrize(
    "fields",
    [{"prompt": MANY}, {"prompt": "a", "stop": MANY}, {str(number): 1 for number in range(20_000)}],
    ids=["prompts", "stops", "fields"],
)
def test_the_first_mistake_of_many_is_enough(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        CompletionRequest.model_validate_json(json.dumps(fields))
    assert caught.value.error_count() <= 2  # of a union, one for each kind


def test_from_the_signal_on_nothing_new_is_taken(bundle: Path) -> None:
    service = Service.open(bundle, "cpu", 1, None, Limits(2, 2, 100, 100))
    server = Draining(uvicorn.Config(build(service)), service, 1)
    before = signal.getsignal(signal.SIGTERM)
    with server.signals():
        signal.raise_signal(signal.SIGTERM)
    assert server.should_exit
    assert signal.getsignal(signal.SIGTERM) == before
    status, body = asyncio.run(call(service, prompt="Où"))
    assert (status, json.loads(body)["error"]["type"]) == (503, "server_error")
