"""The HTTP side of `gptmodel serve`: routes, streams, errors, the end of clients and of the server itself.

Every error has OpenAI's form, in one line. A client that goes away frees its places in the batch at the next turn.

Left out on purpose: FastAPI's pages of documentation (they load scripts from elsewhere), CORS (a page from elsewhere
has no business here).
Source: https://fastapi.tiangolo.com, https://www.uvicorn.org, https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gptmodel.errors import UserError
from gptmodel.serving import completions
from gptmodel.serving.completions import Json, Refused
from gptmodel.serving.scheduler import Busy
from gptmodel.serving.service import GONE, Job, Service, broken

ASSETS = {"": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:"


class Stream(StreamingResponse):
    """A stream that closes its job however it ends."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.events(), media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        with self._job:
            await super().__call__(scope, receive, send)


async def complete(service: Service, http: Request) -> Response:
    """Answer POST /v1/completions; `Refused` where it cannot be."""
    if service.draining:
        raise Refused(503, "the server is shutting down", retry_seconds=1)
    body = await _body(http, service.limits.body_bytes)
    request = completions.parse(body, service.bundle.info.variant, service.limits)
    settings = completions.settings(request, service.limits)
    try:
        service.scheduler.require(len(request.prompts) * request.samples)  # before the work of encoding
        ticket = service.scheduler.submit(completions.texts(request, settings, service.bundle.tokenizer))
    except Busy as busy:
        raise Refused(429, str(busy), retry_seconds=busy.retry_seconds) from None
    except UserError as error:
        raise Refused(400, str(error), "prompt") from None
    job = Job(service, request, settings.seed, ticket)
    if request.stream:
        return Stream(job)
    with job:
        try:
            answer = await _unless_gone(http, job)
        except Exception:  # logged by the scheduler
            job.status = 500
            raise broken() from None
    return Response(status_code=GONE) if answer is None else JSONResponse(answer)


async def _unless_gone(http: Request, job: Job) -> Json | None:
    """Return the whole answer, or None as soon as the client has gone away."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(job.whole()), asyncio.ensure_future(gone())
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        watching.cancel()


async def _body(http: Request, most: int) -> bytes:
    body = bytearray()
    try:
        async for block in http.stream():
            body += block
            if len(body) > most:
                raise Refused(413, f"the body is too large: {most:,} bytes at most")
    except ClientDisconnect:
        raise Refused(GONE, "the client went away") from None
    return bytes(body)


def build(service: Service) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        decoding = asyncio.create_task(service.scheduler.run())
        yield
        decoding.cancel()
        await asyncio.wait([decoding])

    app = FastAPI(title="gptmodel", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)

    @app.exception_handler(Refused)
    async def refused(http: Request, error: Refused) -> Response:
        if http.url.path == "/v1/completions" and error.status != 500:  # those are counted by their job
            service.meters.requests[str(error.status)] += 1
        headers = {"retry-after": str(error.retry_seconds)} if error.retry_seconds else {}
        return JSONResponse(error.body, error.status, headers)

    @app.exception_handler(HTTPException)
    async def no_route(http: Request, error: HTTPException) -> Response:
        message = f"{http.method} {http.url.path[:80]}: {error.detail.lower()}"
        return JSONResponse(Refused(error.status_code, message).body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def bug(_: Request, __: Exception) -> Response:
        return JSONResponse(Refused(500, "internal error: the server's log says why").body, 500)

    @app.post("/v1/completions")
    async def post_completions(http: Request) -> Response:
        return await complete(service, http)

    @app.get("/v1/models")
    async def models() -> Json:
        return {"object": "list", "data": [service.model]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Json:
        if name != service.bundle.info.variant:
            raise Refused(404, f"model {name[:80]} is not here: this server has {service.bundle.info.variant}", "model")
        return service.model

    @app.get("/health/live")
    async def live() -> Json:
        return {"status": "ok"}

    @app.get("/health")
    @app.get("/health/ready")
    async def ready() -> Response:
        status = "draining" if service.draining else "ok"
        body = {"status": status, "running": service.scheduler.running, "waiting": service.scheduler.waiting}
        return JSONResponse(body, 503 if service.draining else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        texts = {"running": service.scheduler.running, "waiting": service.scheduler.waiting}
        return Response(service.meters.text(texts, service.scheduler.tokens), media_type="text/plain; version=0.0.4")

    for ending, kind in ASSETS.items():
        app.add_api_route(f"/{f'playground{ending}' if ending else ''}", _asset(ending or ".html", kind))
    return app


def _asset(ending: str, kind: str) -> Callable[[], Response]:
    file = resources.files("gptmodel") / "playground_assets" / f"playground{ending}"

    def asset() -> Response:
        headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
        return Response(file.read_bytes(), media_type=kind, headers=headers)

    return asset


class Draining(uvicorn.Server):
    """A server that drains on SIGTERM and Ctrl-C, and then ends by returning."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let both signals drain; uvicorn itself would raise them again at the end."""

        def drain(number: int, _: object) -> None:
            self._service.draining = True
            self.handle_exit(number, None)  # a second Ctrl-C does not wait

        before = {number: signal.signal(number, drain) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(service: Service, listening: socket.socket, drain_seconds: int) -> int:
    """Serve until a signal comes and what runs has ended; return how many requests were cut off."""
    config = uvicorn.Config(
        build(service), log_level="error", access_log=False, timeout_graceful_shutdown=drain_seconds, ws="none"
    )
    Draining(config, service).run([listening])
    return service.cut_off
