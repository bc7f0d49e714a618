"""Any bytes get an answer: what schemathesis makes of the OpenAPI document, any body, any bytes in place of HTTP."""

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptmodel.serving.limits import Limits
from gptmodel.serving.service import Service
from gptmodel.serving.wire import CompletionRequest
from tests.support.bundles import char_tokenizer, random_network, write
from tests.support.server import Threaded, threaded

pytestmark = pytest.mark.slow

CAMPAIGN = pytest.param(5_000, marks=pytest.mark.long)
CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
CHECKS += ["response_headers_conformance", "negative_data_rejection", "unsupported_method"]
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
FIELDS = st.dictionaries(st.sampled_from(sorted(CompletionRequest.model_fields)) | st.text(), VALUES)
VALID = {"prompt": ["Où", "là"], "max_tokens": 3, "n": 2, "seed": 1, "stop": ["e"], "logprobs": 2, "stream": True}
ALMOST = st.builds(lambda fields: {**VALID, **fields}, FIELDS)
CUT = st.builds(
    lambda at, length, put: (text := json.dumps(VALID).encode())[:at] + put + text[at + length :],
    st.integers(0, 120),
    st.integers(0, 5),
    st.binary(max_size=5),
)
BODIES = st.binary() | CUT | st.builds(lambda value: json.dumps(value).encode(), VALUES | FIELDS | ALMOST)
WORDS = [b"GET ", b"POST ", b"HEAD ", b"/", b"/v1/completions", b" HTTP/1.1", b"\r\n", b"Host: localhost", b"{}", b": "]
WORDS += [b"Content-Length: 2", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"0\r\n\r\n", b"Upgrade: h2c"]
REQUESTS = st.binary() | st.builds(b"".join, st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=20))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    words = char_tokenizer()
    bundle = write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)
    service = Service.open(bundle, "cpu", 1, None, Limits(4, 4, 5, 1000))
    with threaded(service, seconds=5) as server:
        yield server
        assert service.scheduler.running == service.scheduler.waiting == 0


def campaign(examples: int, strategy: st.SearchStrategy[Any], law: Callable[[Any], None]) -> None:
    """Check a law for so many examples."""
    settings(max_examples=examples, **QUIET)(given(strategy)(law))()  # type: ignore[arg-type]


@pytest.mark.parametrize("examples", [100, CAMPAIGN])
def test_any_body_is_answered_in_openais_form(server: Threaded, examples: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def answered(body: bytes) -> None:
        connection.request("POST", "/v1/completions", body)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 200:
            assert text.endswith(b"data: [DONE]\n\n") or json.loads(text)["choices"]
        else:
            assert 400 <= answer.status < 500
            assert "\n" not in json.loads(text)["error"]["message"]

    campaign(examples, BODIES, answered)
    connection.close()


@pytest.mark.parametrize("examples", [100, CAMPAIGN])
def test_any_bytes_in_place_of_http_are_answered_or_dropped(server: Threaded, examples: int) -> None:
    def dropped(sent: bytes) -> None:
        answer = server.exchange(sent, then_end=True)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 100"))

    campaign(examples, REQUESTS, dropped)


@pytest.mark.parametrize("examples", [10, CAMPAIGN])
def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(
    server: Threaded, tmp_path: Path, examples: int
) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://127.0.0.1:{server.port}/openapi.json",
    ]
    options = ["--mode", "all", "--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS), "--no-color"]
    options += ["--max-examples", str(examples), "--request-timeout", "10", "--generation-database", "none"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Operations:       7 selected / 7 total" in done.stdout
