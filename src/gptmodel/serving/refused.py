"""What a request gets that is not served: a status and one line, in OpenAI's form."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptmodel.serving import wire

KINDS: dict[int, wire.ErrorType] = {404: "not_found_error", 429: "rate_limit_error"}
SHOWN_CHARACTERS = 80  # of what a client sent


class Refused(Exception):
    """A request that gets an error: HTTP status, one line, the field it is about, seconds to wait."""

    def __init__(self, status: int, message: str, param: str | None = None, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.retry_seconds = retry_seconds

    @property
    def response(self) -> wire.ErrorResponse:
        """The error as OpenAI words it."""
        kind = KINDS.get(self.status) or ("server_error" if self.status >= 500 else "invalid_request_error")
        return wire.ErrorResponse(error=wire.ErrorDetail(message=str(self), type=kind, param=self.param))


def answer(error: Refused, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that is refused."""
    own = {"retry-after": str(error.retry_seconds)} if error.retry_seconds else {}
    if error.status == 401:
        own["www-authenticate"] = "Bearer"
    return JSONResponse(error.response.model_dump(), error.status, {**own, **(headers or {})})


async def refused(_: Request, error: Refused) -> Response:
    """Answer a request that is refused."""
    return answer(error)


async def no_route(http: Request, error: HTTPException) -> Response:
    """Answer a request for a path or method that is not there."""
    line = f"{http.method} {short(http.url.path)}: {error.detail.lower()}"
    return answer(Refused(error.status_code, line), error.headers)


async def bug(_: Request, __: Exception) -> Response:
    """Answer where the server itself is wrong; the traceback goes to its log."""
    return answer(Refused(500, "internal error: the server's log says why"))


def short(text: object) -> str:
    """Return the beginning of what a client sent, in one line."""
    shown = str(text)[:SHOWN_CHARACTERS]
    return shown if shown.isprintable() else repr(shown)[1:-1]
