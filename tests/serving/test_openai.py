"""OpenAI's own client drives a running server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


ONE: dict[str, Any] = {"model": "essai", "prompt": "Où", "max_tokens": 9}


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": "漢字 never seen"},
        {"prompt": ["a"] * 4},
        {"max_tokens": 1},
        {"max_tokens": 100},
        {"n": 4},
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 0.01},
        {"stop": "e"},
        {"stop": ["e", "l", "o"]},
        {"seed": 0},
        {"logprobs": 0},
        {"logprobs": 5},
        {"echo": True},
        {"user": "me"},
        {"best_of": 1, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "suffix": ""},
        {"extra_body": {"top_k": 5, "repetition_penalty": 1.1}},
    ],
    ids=str,
)
def test_what_it_asks_is_answered_whole_and_in_a_stream_alike(client: openai.OpenAI, fields: dict[str, Any]) -> None:
    asked = {"seed": 5, **ONE, **fields}
    whole = client.completions.create(**asked)
    parts = list(client.completions.create(**asked, stream=True))
    for number, choice in enumerate(whole.choices):
        texts = [piece.text for part in parts for piece in part.choices if piece.index == number]
        assert "".join(texts) == choice.text
        assert choice.finish_reason in ("length", "stop")
    assert len(whole.choices) == len(asked["prompt"] if isinstance(asked["prompt"], list) else "1") * asked.get("n", 1)
    assert whole.object == "text_completion"
    assert whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "gpt-4"}, "model"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 99}, "n"),
        ({"logprobs": 9}, "logprobs"),
        ({"best_of": 3}, "best_of"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"suffix": "a"}, "suffix"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"extra_body": {"service_tier": "auto"}}, "service_tier"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
    ids=str,
)
def test_what_it_cannot_have_is_refused_with_the_name_of_the_field(
    client: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(**{**ONE, **fields})
    assert caught.value.status_code == (404 if param == "model" else 400)
    assert caught.value.param == param


def test_what_is_not_here_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="essai", messages=[{"role": "user", "content": "Où"}])
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="essai", input="Où")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="essai", input="Où")


def test_the_asynchronous_client_asks_many_at_once(server: Server) -> None:
    async def story() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none") as client:
            asked = [client.completions.create(**{**ONE, "seed": seed}) for seed in range(8)]
            return [answer.choices[0].text for answer in await asyncio.gather(*asked)]

    assert asyncio.run(story()) == [server.text(prompt="Où", max_tokens=9, seed=seed) for seed in range(8)]


def test_a_stream_can_be_left(client: openai.OpenAI, server: Server) -> None:
    with client.completions.create(**{**ONE, "max_tokens": 100}, stream=True) as stream:
        next(iter(stream))
    server.wait_for(running=0, waiting=0)


def test_its_key_opens_the_door(tmp_path: Path) -> None:
    words = char_tokenizer()
    bundle = write(tmp_path / "b", random_network("modern", words), words)
    with running(bundle, "--api-key", "sesame") as server:
        address = f"http://127.0.0.1:{server.port}/v1"
        assert openai.OpenAI(base_url=address, api_key="sesame").completions.create(**ONE).choices
        with pytest.raises(openai.AuthenticationError, match="asks for its key"):
            openai.OpenAI(base_url=address, api_key="wrong").models.list()
