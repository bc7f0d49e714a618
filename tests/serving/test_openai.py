"""OpenAI's own client drives a running server."""

from collections.abc import Iterator

import openai
import pytest

from tests.serving.test_server import Server, running
from tests.support.bundles import char_tokenizer, random_network, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = char_tokenizer()
    bundle = write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)
    with running(bundle, "--max-tokens", "100") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0, timeout=20)


def test_it_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["essai"]
    assert client.models.retrieve("essai").owned_by == "gptmodel"
    with pytest.raises(openai.NotFoundError, match="this server has essai"):
        client.models.retrieve("gpt-4")


def test_it_completes_several_prompts(client: openai.OpenAI, server: Server) -> None:
    answer = client.completions.create(model="essai", prompt=["Où", "là"], n=2, max_tokens=9, seed=5, temperature=1.1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 36)
    assert answer.choices[2].text == server.text(prompt="là", max_tokens=9, seed=5, temperature=1.1)


def test_own_settings_go_through_its_extra_body(client: openai.OpenAI, server: Server) -> None:
    own = {"top_k": 3, "repetition_penalty": 1.5}
    answer = client.completions.create(model="essai", prompt="Où", max_tokens=30, seed=5, extra_body=own)
    assert answer.choices[0].text == server.text(prompt="Où", max_tokens=30, seed=5, **own)
    assert answer.choices[0].text != server.text(prompt="Où", max_tokens=30, seed=5)


def test_a_stream_comes_in_parts_and_ends_with_the_usage(client: openai.OpenAI, server: Server) -> None:
    *parts, last = client.completions.create(
        model="essai", prompt="Où", max_tokens=100, seed=5, stream=True, stream_options={"include_usage": True}
    )
    assert "".join(part.choices[0].text for part in parts) == server.text(prompt="Où", max_tokens=100, seed=5)
    assert [part.choices[0].finish_reason for part in parts][-1] == "length"
    assert last.choices == []
    assert last.usage
    assert last.usage.completion_tokens == 100


def test_logprobs_are_those_of_the_likeliest_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="essai", prompt="Où", max_tokens=9, temperature=0, logprobs=2)
    costs = answer.choices[0].logprobs
    assert costs
    assert costs.tokens
    assert costs.top_logprobs
    assert "".join(costs.tokens) == answer.choices[0].text
    assert costs.text_offset == list(range(9))
    assert [max(top, key=lambda name: top[name]) for top in costs.top_logprobs] == costs.tokens
    assert costs.token_logprobs == [max(top.values()) for top in costs.top_logprobs]


def test_an_error_names_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="essai", prompt="Où", frequency_penalty=0.5)
    assert caught.value.param == "frequency_penalty"
    assert caught.value.type == "invalid_request_error"
    assert "frequency_penalty is not supported here" in caught.value.message
