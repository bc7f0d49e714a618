"""A request becomes the settings of the decoder; what the decoder found becomes parts of an answer."""

from collections.abc import Iterable

from pydantic import ValidationError

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.sampling import InvalidSetting, Sampling, given_or_random
from gptmodel.decoding.sequence import Choice, Settings
from gptmodel.serving import wire
from gptmodel.serving.limits import Limits
from gptmodel.serving.refused import Refused, short

MAX_STOP_CHARACTERS = 200


def parse(body: bytes, model: str, limits: Limits) -> wire.CompletionRequest:
    """Return a request after checking it against the limits; `Refused` says what is wrong with which field."""
    try:
        request = wire.CompletionRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refused(error) from None
    if request.model not in (None, model):
        raise Refused(404, f"model {short(request.model)} is not here: this server has {model}", "model")
    texts = len(request.prompts) * request.samples
    characters = sum(map(len, request.prompts))
    if characters > limits.max_prompt_characters:
        most = f"this server takes {limits.max_prompt_characters:,} at most"
        raise Refused(400, f"the prompt has {characters:,} characters: {most}", "prompt")
    if texts > limits.max_concurrent:
        raise Refused(400, f"prompts times n are {texts} texts: {limits.max_concurrent} per request at most", "n")
    if request.max_tokens is not None and request.max_tokens > limits.max_tokens:
        raise Refused(400, f"max_tokens must be {limits.max_tokens} or below, not {request.max_tokens}", "max_tokens")
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in request.stops):
        raise Refused(400, f"a stop string may have {MAX_STOP_CHARACTERS} characters at most", "stop")
    if request.echo and request.logprobs is not None:
        raise Refused(400, "echo and logprobs do not go together here: ask for one of them", "echo")
    if request.stream_options and not request.stream:
        raise Refused(400, "stream_options need stream: true", "stream_options")
    return request


def settings(request: wire.CompletionRequest, limits: Limits) -> Settings:
    """Return how the texts are continued; a seed is drawn where none is given. `Refused` for values out of range."""
    given = request.model_dump(include=set(wire.Defaults.model_fields), exclude_none=True)
    values = wire.Defaults.within(limits).model_copy(update=given)
    try:
        sampling = Sampling(values.temperature, values.top_k, values.top_p, values.repetition_penalty)
        return Settings(values.max_tokens, sampling, given_or_random(request.seed), request.stops)
    except InvalidSetting as error:
        field = "max_tokens" if error.field == "max_new_tokens" else error.field
        raise Refused(400, f"{field} {error.reason}", field) from None


def logprobs(tokens: Iterable[Choice], tokenizer: Tokenizer) -> wire.Logprobs:
    """Return log-probabilities (nats) of the tokens and of the likeliest in their place."""
    answer = wire.Logprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for token in tokens:
        likeliest: dict[str, float] = {}
        for other, nats in token.top.items():  # of tokens that are spelled alike, the likelier one counts
            likeliest.setdefault(spelling(tokenizer, other), round(nats, 4))
        answer.tokens.append(spelling(tokenizer, token.token))
        answer.token_logprobs.append(round(token.log_probability, 4))
        answer.top_logprobs.append(likeliest)
        answer.text_offset.append(token.offset)
    return answer


def spelling(tokenizer: Tokenizer, token: int) -> str:
    r"""Return the text of a token; of one that is no whole text, its bytes as in `bytes:\xc3`."""
    spelled = tokenizer.token_bytes[token]
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def _refused(error: ValidationError) -> Refused:
    """Return the first mistake in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, message = first["type"], first["msg"]
    if kind == "json_invalid":
        return Refused(400, f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}")
    if kind == wire.UNKNOWN:
        field = str((*first["loc"], message)[0])
        return Refused(400, f"{short(message)} is not a field that this server knows", short(field))
    if not first["loc"]:
        return Refused(400, 'the body must be a JSON object, such as {"prompt": "Il était"}')
    field = str(first["loc"][0])
    if kind == wire.UNSUPPORTED:
        return Refused(400, message, field)
    if field == "prompt":
        return Refused(400, "prompt must be a string, or a list of at least one string", field)
    if field == "stop":
        return Refused(400, f"stop must be a string or a list of at most {wire.MAX_STOPS} strings", field)
    return Refused(400, f"{field}: {message[0].lower()}{message[1:]}", field)
