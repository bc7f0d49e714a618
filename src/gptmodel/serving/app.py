"""The HTTP side of a service: routes, streams, errors, and clients that go away.

Every error has OpenAI's form, in one line. A client that goes away frees its slots at the next turn.

Who may ask is in `access`: all but the page, /health and /openapi.json asks for the key, if there is one.

Left out on purpose: FastAPI's pages of documentation (they load scripts from elsewhere; /openapi.json is there).
Source: https://fastapi.tiangolo.com, https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, format_sse_event
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gptmodel.serving import completions, wire
from gptmodel.serving.access import LOCAL, SAFE_METHODS, Access, requires
from gptmodel.serving.middleware import COMPLETIONS, GONE, CountOutcomes, Guard, set_outcome
from gptmodel.serving.refused import Refused, bug, no_route, refused, short
from gptmodel.serving.service import Completion, Service

ASSETS = {"": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SCHEMAS = "#/components/schemas/"
REQUEST = {"$ref": f"{SCHEMAS}CompletionRequest"}
PART = {"anyOf": [{"$ref": f"{SCHEMAS}CompletionResponse"}, {"$ref": f"{SCHEMAS}ErrorResponse"}]}
EVENT = {
    "type": "object",
    "properties": {
        "data": {
            "type": "string",
            "anyOf": [{"contentMediaType": "application/json", "contentSchema": PART}, {"const": "[DONE]"}],
            "description": "the next parts of the texts, or the error that ends them; at the end [DONE]",
        }
    },
    "required": ["data"],
}
TEXTS: dict[str, Any] = {
    "model": wire.CompletionResponse,
    "description": "The texts, whole or in events",
    "content": {"text/event-stream": {"itemSchema": EVENT}},
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": wire.ErrorResponse, "description": "The request is wrong, is not allowed, or has to wait"},
    "5XX": {"model": wire.ErrorResponse, "description": "The server failed, is full, or is shutting down"},
}
ENDING: dict[int | str, dict[str, Any]] = {503: {"model": wire.Ready, "description": "The server is shutting down"}}

router = APIRouter(responses=ERRORS)
health = APIRouter(responses=ERRORS)


async def _service(http: Request) -> Service:
    service: Service = http.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]


async def _request(http: Request, service: Served) -> wire.CompletionRequest:
    """Read and check the body, no more of it than the limits allow."""
    if service.draining:
        raise Refused(503, "the server is shutting down", retry_seconds=1)
    most = service.limits.body_bytes
    body = bytearray()
    try:
        async for block in http.stream():
            body += block
            if len(body) > most:
                raise Refused(413, f"the body is too large: {most:,} bytes at most")
    except ClientDisconnect:
        raise Refused(GONE, "the client went away") from None
    return completions.parse(bytes(body), service.name, service.limits)


@router.post(
    COMPLETIONS,
    responses={200: TEXTS},
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": REQUEST}}}},
)
async def complete(
    http: Request, service: Served, request: Annotated[wire.CompletionRequest, Depends(_request)]
) -> Response:
    """Continue the prompts."""
    completion = await service.submit(request)
    if request.stream:
        return EventStream(completion)
    with completion:
        try:
            answer = await _unless_gone(http, completion)
        except Exception:  # the scheduler has logged it
            raise _broken() from None
    if answer is None:
        return Response(status_code=GONE)
    return Response(answer, media_type="application/json")


@router.get("/v1/models")
async def models(service: Served) -> wire.ModelList:
    """List the model."""
    return wire.ModelList(data=[service.model])


@router.get("/v1/models/{name}")
async def model(name: str, service: Served) -> wire.Model:
    """Describe the model, and what one may ask of it."""
    if name != service.name:
        raise Refused(404, f"model {short(name)} is not here: this server has {service.name}", "model")
    return service.model


@health.get("/health/live")
async def live() -> wire.Live:
    """Say that the server answers."""
    return wire.Live()


@health.get("/health", responses=ENDING)
@health.get("/health/ready", responses=ENDING)
async def ready(service: Served, response: Response) -> wire.Ready:
    """Say whether the server takes requests."""
    response.status_code = 503 if service.draining else 200
    status: Literal["ok", "draining"] = "draining" if service.draining else "ok"
    return wire.Ready(status=status, running=service.scheduler.running, waiting=service.scheduler.waiting)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Served) -> Response:
    """Return what Prometheus reads."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class EventStream(EventSourceResponse):
    """A stream that closes its completion however it ends; an error in mid-stream is its last event."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(self._events(), headers={"cache-control": "no-store"})
        self._completion = completion
        self._failed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        with self._completion:
            await super().__call__(scope, receive, send)
        if self._failed:
            set_outcome(scope, 500)

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            async for event in self._completion.events():
                yield format_sse_event(data_str=event.model_dump_json(exclude_unset=True))
        except Exception:  # the scheduler has logged it
            self._failed = True
            yield format_sse_event(data_str=_broken().response.model_dump_json())
        else:
            yield format_sse_event(data_str="[DONE]")


async def _unless_gone(http: Request, completion: Completion) -> str | None:
    """Return the whole answer as JSON, or None as soon as the client has gone away."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(completion.whole())
    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        watching.cancel()


def _broken() -> Refused:
    """Return what a client hears of an error in the server."""
    return Refused(500, "decoding failed: the server's log says why")


def asset(ending: str) -> Response:
    """Return one file of the playground."""
    file = resources.files("gptmodel.serving") / "playground_assets" / f"playground{ending or '.html'}"
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(file.read_bytes(), media_type=ASSETS[ending], headers=headers)


@asynccontextmanager
async def _decoding(app: FastAPI) -> AsyncIterator[None]:
    """Run the scheduler as long as the application lives."""
    decoding = asyncio.create_task(app.state.service.scheduler.run())
    yield
    decoding.cancel()
    await asyncio.wait([decoding])


class Application(FastAPI):
    """FastAPI, whose OpenAPI document also describes the body that `_request` reads."""

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            body = wire.CompletionRequest.model_json_schema(ref_template=f"{SCHEMAS}{{model}}")
            schemas |= body.pop("$defs")
            schemas["CompletionRequest"] = body
        return super().openapi()


def build(service: Service, access: Access = LOCAL) -> FastAPI:
    """Return the application."""
    app = Application(
        title="gptmodel",
        version=version("gptmodel"),
        docs_url=None,
        redoc_url=None,
        lifespan=_decoding,
        exception_handlers={Refused: refused, HTTPException: no_route, Exception: bug},
    )
    app.state.service = service
    app.include_router(router, dependencies=[Depends(requires(access.key))] if access.key else None)
    app.include_router(health)
    for ending in ASSETS:
        path = f"/playground{ending}" if ending else "/"
        app.add_api_route(path, partial(asset, ending), include_in_schema=False)
    app.add_middleware(CountOutcomes, service=service)
    if access.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=access.origins, allow_methods=(*SAFE_METHODS, "POST"), allow_headers=["*"]
        )
    app.add_middleware(Guard, access=access)
    return app
