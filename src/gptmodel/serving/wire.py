"""What travels over HTTP, as typed models: OpenAI's completions API, as far as a small model has a use for it.

Beside OpenAI's fields there are `top_k` and `repetition_penalty`, and answers say which `seed` was used. A field that
would change the text and is not supported, or is not known at all, is refused: it must not be ignored in silence.

Left out on purpose: chat, prompts of token ids, `suffix`, `best_of`, the other penalties, `echo` with `logprobs`.
Source: https://platform.openai.com/docs/api-reference/completions.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gptmodel.decoding import defaults
from gptmodel.decoding.sequence import FinishReason
from gptmodel.results.bundle import Origin
from gptmodel.serving.limits import Limits

MAX_STOPS = 16
MAX_SEED = (1 << 63) - 1
UNSUPPORTED, UNKNOWN = "unsupported", "unknown"  # pydantic's names for our kinds of error
NEUTRAL = {"best_of": 1, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "suffix": ""}


class RequestModel(BaseModel):
    """Nothing is converted, and a field that is not known is an error."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _knows_every_field(cls, fields: Any) -> Any:
        """Refuse the first field that is not known: a list of 20,000 of them would take long."""
        for name in fields if isinstance(fields, dict) else ():
            if name not in cls.model_fields:
                raise PydanticCustomError(UNKNOWN, "{name}", {"name": name})
        return fields


class StreamOptions(RequestModel):
    """What a stream holds beside the text."""

    include_usage: bool | None = Field(None, description="a last event, without text, counts the tokens")


class CompletionRequest(RequestModel):
    """The body of POST /v1/completions; null counts as not given."""

    model: str | None = Field(None, description="the one that /v1/models lists")
    prompt: str | Annotated[list[str], Field(min_length=1, fail_fast=True)] = Field(description="one text, or several")
    max_tokens: int | None = Field(None, description=f"tokens to generate per text; {defaults.MAX_NEW_TOKENS}")
    temperature: float | None = Field(None, description=f"0 takes the likeliest token; {defaults.TEMPERATURE}")
    top_p: float | None = Field(None, description=f"mass of the likeliest tokens to draw among; {defaults.TOP_P}")
    top_k: int | None = Field(None, description=f"how many tokens to draw among, 0 for all; {defaults.TOP_K}")
    repetition_penalty: float | None = Field(
        None, description=f"above 1, tokens of the text so far are less likely; {defaults.REPETITION_PENALTY}"
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(None, description="the same seed, the same text")
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS, fail_fast=True)] | None = Field(
        None, description="the text ends before the first of these strings"
    )
    n: Annotated[int, Field(ge=1)] | None = Field(None, description="texts per prompt; 1")
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = Field(None, description="how many likely tokens to name")
    echo: bool | None = Field(None, description="begin with the prompt")
    stream: bool | None = Field(None, description="answer in server-sent events")
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="not used")
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @field_validator(*NEUTRAL, mode="before")
    @classmethod
    def _changes_nothing(cls, value: Any, info: ValidationInfo) -> Any:
        """Take what is not supported only where it changes nothing."""
        name = info.field_name or ""
        if value is not None and value != NEUTRAL[name]:
            raise PydanticCustomError(UNSUPPORTED, "{name} is not supported here", {"name": name})
        return value

    @property
    def prompts(self) -> list[str]:
        """The prompts; one that is given as a string is a list of one."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def samples(self) -> int:
        """Texts per prompt."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Logprobs(BaseModel):
    """What each token cost the model, and what was likely in its place, before temperature, penalties and cuts."""

    tokens: list[str] = Field(description="a token that is no whole text shows its bytes, as in bytes:\\xc3")
    token_logprobs: list[float] = Field(description="natural logarithms of probabilities")
    top_logprobs: list[dict[str, float]]
    text_offset: list[int] = Field(description="the character of the text that the token begins")


class CompletionChoice(BaseModel):
    """One text, or the next part of one."""

    index: int = Field(description="all samples of the first prompt come first, then those of the next")
    text: str
    logprobs: Logprobs | None
    finish_reason: FinishReason | None = Field(description="null while the text goes on")


class Usage(BaseModel):
    """How many tokens were read and written; a prompt counts once, however many texts continue it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionResponse(BaseModel):
    """An answer, or one event of a stream; a stream has `usage` only if asked for it."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="seconds since 1970")
    model: str
    choices: list[CompletionChoice]
    seed: int = Field(description="that gives the same texts again")
    usage: Usage | None = None


class Defaults(BaseModel):
    """What a request gets that does not say otherwise."""

    max_tokens: int
    temperature: float = defaults.TEMPERATURE
    top_k: int = defaults.TOP_K
    top_p: float = defaults.TOP_P
    repetition_penalty: float = defaults.REPETITION_PENALTY

    @classmethod
    def within(cls, limits: Limits) -> Self:
        """Return the defaults of a server with these limits."""
        return cls(max_tokens=min(defaults.MAX_NEW_TOKENS, limits.max_tokens))


class Model(BaseModel):
    """The model as OpenAI lists it, and what a person wants to know of it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since 1970")
    owned_by: Literal["gptmodel"] = "gptmodel"
    level: str = Field(description="char, word or bpe")
    context: int = Field(description="tokens that it looks back on")
    vocab_size: int
    parameters: int
    graph: str = Field(description="portable, fp32, int8 or fp16")
    corpus: Origin = Field(description="the title page of the text that it was trained on")
    example_prompt: str = Field(description="of the kind of that text")
    limits: Limits
    defaults: Defaults


class ModelList(BaseModel):
    """The models of a server: one."""

    object: Literal["list"] = "list"
    data: list[Model]


class Live(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether the server takes requests, and how many texts are decoded and wait."""

    status: Literal["ok", "draining"]
    running: int
    waiting: int


ErrorType = Literal["invalid_request_error", "not_found_error", "rate_limit_error", "server_error"]


class ErrorDetail(BaseModel):
    """One line on what is wrong, and the field that it is about."""

    message: str
    type: ErrorType
    param: str | None = None
    code: None = None


class ErrorResponse(BaseModel):
    """Every error, in OpenAI's form."""

    error: ErrorDetail
