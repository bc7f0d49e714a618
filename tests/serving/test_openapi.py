"""/openapi.json says what the server does: its routes, what it takes, what it answers."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from gptmodel.decoding import defaults
from tests.serving.test_server import MISTAKES, Server, running
from tests.support.bundles import char_tokenizer, random_network, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = char_tokenizer()
    bundle = write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)
    with running(bundle, "--max-prompt-characters", "500", "--max-concurrent", "8") as server:
        yield server


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return server.get("/openapi.json")


def check(document: Any, schema: Any, value: Any) -> None:
    """Check a value against a schema of the document; an error says where it differs."""
    jsonschema.validate(value, {**schema, "components": document["components"]})


def answer_of(document: Any, method: str, path: str, status: str) -> Any:
    return document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]


def test_every_route_of_the_api_is_described_and_every_reference_leads_somewhere(document: Any) -> None:
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == {
        ("/v1/completions", "post"),
        ("/v1/models", "get"),
        ("/v1/models/{name}", "get"),
        ("/health", "get"),
        ("/health/live", "get"),
        ("/health/ready", "get"),
        ("/metrics", "get"),
    }
    statuses = {
        status for methods in document["paths"].values() for one in methods.values() for status in one["responses"]
    }
    assert "422" not in statuses  # FastAPI's own, which this server never sends
    for part in json.dumps(document).split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in document["components"]["schemas"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/essai", "/health", "/health/live", "/health/ready"])
def test_answers_are_as_described(server: Server, document: Any, path: str) -> None:
    check(document, answer_of(document, "get", path.replace("essai", "{name}"), "200"), server.get(path))


def test_completions_and_their_events_are_as_described(server: Server, document: Any) -> None:
    schema = answer_of(document, "post", "/v1/completions", "200")
    request = {"prompt": "Où", "max_tokens": 30, "logprobs": 2, "n": 2}
    check(document, schema, server.post(**request)[1])
    *events, done = server.stream(**request, stream_options={"include_usage": True}, echo=False)
    assert done == "[DONE]"
    for event in events:
        check(document, schema, event)


def test_what_the_document_refuses_the_server_refuses_and_says_so_as_described(server: Server, document: Any) -> None:
    body = document["paths"]["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    answer = answer_of(document, "post", "/v1/completions", "4XX")
    refused = 0
    for text, status, _, _ in MISTAKES:
        if status == 400:
            error = json.loads(server.send("POST", "/v1/completions", text).read())
            check(document, answer, error)
        try:
            check(document, body, json.loads(text))
        except jsonschema.ValidationError:
            refused += 1
            assert status == 400
        except (ValueError, RecursionError):  # no JSON at all
            pass
    assert refused > 10
    check(document, body, {"prompt": ["Où"], "stop": ["."], "frequency_penalty": 0, "logit_bias": {}, "seed": None})


def test_what_is_not_given_is_listed_with_the_model(server: Server) -> None:
    assert server.get("/v1/models/essai")["defaults"] == {
        "max_tokens": defaults.MAX_NEW_TOKENS,
        "temperature": defaults.TEMPERATURE,
        "top_k": defaults.TOP_K,
        "top_p": defaults.TOP_P,
        "repetition_penalty": defaults.REPETITION_PENALTY,
    }


def test_the_pages_of_documentation_which_load_scripts_from_elsewhere_are_off(server: Server) -> None:
    assert [server.send("GET", path).status for path in ("/docs", "/redoc")] == [404, 404]
