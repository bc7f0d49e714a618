"""What every request passes before and after the application: the check of who asks, the count of how it ended."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptmodel.serving.access import Access
from gptmodel.serving.refused import Refused, answer
from gptmodel.serving.service import Service

COMPLETIONS = "/v1/completions"
GONE = 499  # nginx's status for a client that went away before the answer


class Guard:
    """ASGI middleware. Only what may ask gets through; HEAD is answered as GET, whose body uvicorn leaves out."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            try:
                self._access.check(scope["method"], Headers(scope=scope))
            except Refused as error:
                await answer(error)(scope, receive, send)
                return
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class CountOutcomes:
    """ASGI middleware. A status counts once the answer is complete; until then the client may go away."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and count it, if it is one for a completion."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", COMPLETIONS):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        set_outcome(scope, GONE)
        status = GONE

        async def watched(message: Message) -> None:
            nonlocal status
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                set_outcome(scope, status)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            set_outcome(scope, 500)
            raise
        finally:
            self._service.metrics.requests.labels(scope["state"]["outcome"]).inc()


def set_outcome(scope: Scope, status: int) -> None:
    """Say how a request ends, where its HTTP status, which is sent before a stream, does not."""
    scope["state"]["outcome"] = status
