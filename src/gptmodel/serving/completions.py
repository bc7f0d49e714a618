"""The completions API of OpenAI, as far as a small model has a use for it: requests checked, answers put into words.

Beside OpenAI's fields there are `top_k` and `repetition_penalty`, and answers say which `seed` was used. What is not
given has the value that `gptmodel generate` gives it. A field that would change the text and is not supported, or is
not known at all, is refused: it must not be ignored in silence.

Left out on purpose: chat, prompts of token ids, `suffix`, `best_of`, the other penalties, `echo` with `logprobs`.
Source: https://platform.openai.com/docs/api-reference/completions.
"""

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.generation import FinishReason, Settings
from gptmodel.decoding.sampling import Sampling
from gptmodel.errors import UserError
from gptmodel.serving.limits import Limits
from gptmodel.serving.scheduler import Choice, Continuation

MAX_STOPS, MAX_STOP_CHARACTERS = 16, 200
MAX_SEED = (1 << 63) - 1
RANDOM_SEEDS = 1 << 32  # few digits, to be typed again

Json = dict[str, Any]


class Refused(Exception):
    """A request that gets an error: HTTP status, one line, the field it is about, seconds to wait."""

    def __init__(self, status: int, message: str, param: str | None = None, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.retry_seconds = status, param, retry_seconds

    @property
    def body(self) -> Json:
        """The error as OpenAI words it."""
        kind = {429: "rate_limit_error", 404: "not_found_error"}.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": None}}


class StreamOptions(BaseModel):
    """What a stream holds beside the text."""

    model_config = ConfigDict(strict=True, extra="forbid")
    include_usage: bool | None = None


class Request(BaseModel):
    """The body of POST /v1/completions; null counts as not given."""

    model_config = ConfigDict(strict=True, extra="forbid")
    model: str | None = None
    prompt: str | Annotated[list[str], Field(min_length=1)]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # Taken where they change nothing.
    best_of: Literal[1] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @property
    def prompts(self) -> list[str]:
        """The prompts; one that is given as a string is a list of one."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def samples(self) -> int:
        """Texts per prompt."""
        return self.n or 1


def parse(body: bytes, model: str, limits: Limits) -> Request:
    """Return a request after checking it against the limits; `Refused` says what is wrong with which field."""
    try:
        request = Request.model_validate_json(body)
    except ValidationError as error:
        raise _refused(error) from None
    if request.model not in (None, model):
        raise Refused(404, f"model {_short(request.model)} is not here: this server has {model}", "model")
    texts, characters = len(request.prompts) * request.samples, sum(map(len, request.prompts))
    if characters > limits.max_prompt_characters:
        most = f"this server takes {limits.max_prompt_characters:,} at most"
        raise Refused(400, f"the prompt has {characters:,} characters: {most}", "prompt")
    if texts > limits.max_concurrent:
        raise Refused(400, f"prompts times n are {texts} texts: {limits.max_concurrent} per request at most", "n")
    if request.max_tokens is not None and request.max_tokens > limits.max_tokens:
        raise Refused(400, f"max_tokens must be {limits.max_tokens} or below, not {request.max_tokens}", "max_tokens")
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in _stops(request)):
        raise Refused(400, f"a stop string may have {MAX_STOP_CHARACTERS} characters at most", "stop")
    if request.echo and request.logprobs is not None:
        raise Refused(400, "echo and logprobs do not go together here: ask for one of them", "echo")
    if request.stream_options and not request.stream:
        raise Refused(400, "stream_options need stream: true", "stream_options")
    return request


def settings(request: Request, limits: Limits) -> Settings:
    """Return how the texts are continued; a seed is drawn where none is given. `Refused` for values out of range."""

    def given(value: Any, otherwise: Any) -> Any:
        return otherwise if value is None else value

    try:
        sampling = Sampling(
            given(request.temperature, 0.8),
            given(request.top_k, 0),
            given(request.top_p, 0.95),
            given(request.repetition_penalty, 1.0),
        )
        seed = given(request.seed, secrets.randbelow(RANDOM_SEEDS))
        return Settings(given(request.max_tokens, min(200, limits.max_tokens)), sampling, seed, tuple(_stops(request)))
    except UserError as error:
        name = str(error).split(" ", 1)[0].replace("-", "_").replace("max_new_tokens", "max_tokens")
        message = str(error).replace("-new-tokens", "_tokens")
        raise Refused(400, message, name if name in Request.model_fields else "stop") from None


def texts(request: Request, settings: Settings, tokenizer: Tokenizer) -> list[Continuation]:
    """Return the texts to be made: all samples of the first prompt, then of the next."""
    return [
        Continuation(tokenizer, prompt, settings, sample, request.logprobs)
        for prompt in request.prompts
        for sample in range(request.samples)
    ]


def choice(index: int, text: str, reason: FinishReason | None, costs: Json | None) -> Json:
    """Return one entry of `choices`."""
    return {"index": index, "text": text, "logprobs": costs, "finish_reason": reason}


def costs(choices: tuple[Choice, ...], tokenizer: Tokenizer) -> Json:
    """Return `logprobs`: log-probabilities (nats) of the tokens and of the likeliest in their place.

    Of tokens that are spelled alike the likelier one counts.
    """

    def top(one: Choice) -> dict[str, float]:
        spelled: dict[str, float] = {}
        for token, nats in one.top.items():
            spelled.setdefault(spelling(tokenizer, token), round(nats, 4))
        return spelled

    return {
        "tokens": [spelling(tokenizer, one.token) for one in choices],
        "token_logprobs": [round(one.log_probability, 4) for one in choices],
        "top_logprobs": [top(one) for one in choices],
        "text_offset": [one.offset for one in choices],
    }


def spelling(tokenizer: Tokenizer, token: int) -> str:
    r"""Return the text of a token; of one that is no whole text, its bytes as in `bytes:\xc3`."""
    spelled = tokenizer.token_bytes[token]
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def usage(request: Request, texts: list[Continuation], completion_tokens: int) -> Json:
    """Return how many tokens were read and written; a prompt counts once, however many texts continue it."""
    prompt_tokens = sum(text.prompt_tokens for text in texts[:: request.samples])
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _stops(request: Request) -> list[str]:
    return [request.stop] if isinstance(request.stop, str) else request.stop or []


def _refused(error: ValidationError) -> Refused:
    """Return the first mistake in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Refused(400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if not first["loc"]:
        return Refused(400, 'the body must be a JSON object, such as {"prompt": "Il était"}')
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return Refused(
            400, f"{_short('.'.join(map(str, first['loc'])))} is not a field that this server knows", _short(field)
        )
    if field == "prompt":
        return Refused(400, "prompt must be a string, or a list of at least one string", field)
    if field == "stop":
        return Refused(400, f"stop must be a string or a list of at most {MAX_STOPS} strings", field)
    return Refused(400, f"{field}: {first['msg'][0].lower()}{first['msg'][1:]}", field)


def _short(text: object) -> str:
    return str(text)[:80]
