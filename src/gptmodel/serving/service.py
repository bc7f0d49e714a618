"""What a server serves, and one request on its way from the batch to its answer; no HTTP here (see `web`).

An answer comes in one piece or as server-sent events: `data: {...}` with one or more tokens each, then `data: [DONE]`.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from gptmodel.runtime.bundle import Bundle, read_info
from gptmodel.runtime.session import Device
from gptmodel.serving import completions
from gptmodel.serving.completions import Json, Refused
from gptmodel.serving.limits import Limits
from gptmodel.serving.metrics import Meters
from gptmodel.serving.scheduler import Batch, Part, Scheduler, Ticket
from gptmodel.serving.slots import open_slots

GONE = 499  # nginx's status for a client that went away before the answer


@dataclass(eq=False)
class Service:
    """A bundle, its scheduler and its meters."""

    bundle: Bundle
    limits: Limits
    scheduler: Scheduler
    meters: Meters = field(default_factory=Meters)
    draining: bool = False
    cut_off: int = 0  # requests that the end of the server has ended

    @classmethod
    def open(cls, path: Path, device: Device, threads: int, variant: str | None, limits: Limits) -> "Service":
        """Load a bundle; on a CPU the default graph is fp32, whose texts do not depend on their neighbours."""
        graph = variant or ("fp32" if device == "cpu" and "fp32" in read_info(path).graphs else None)
        bundle = Bundle.load(path, device, threads, graph)
        batch = Batch(open_slots(bundle, limits.max_concurrent), bundle.tokenizer)
        return cls(bundle, limits, Scheduler(batch, limits.max_queue))

    @property
    def summary(self) -> str:
        """What is served, in one line."""
        bundle, limits = self.bundle, self.limits
        return (
            f"{bundle.path}: {bundle.info.variant}, {bundle.graph} on {bundle.place},"
            f" {limits.max_concurrent} texts at once, {limits.max_queue} may wait"
        )

    @property
    def model(self) -> Json:
        """The model as OpenAI lists it, and what a person wants to know of it."""
        info = self.bundle.info
        return {
            "id": info.variant,
            "object": "model",
            "created": int(self.bundle.path.stat().st_mtime),
            "owned_by": "gptmodel",
            "level": info.level,
            "context": info.context,
            "vocab_size": info.vocab_size,
            "parameters": info.parameters,
            "graph": self.bundle.graph,
            "corpus": dict(info.corpus),
            "limits": vars(self.limits),
        }


@dataclass(eq=False)
class Job:
    """One request for completions on its way."""

    service: Service
    request: completions.Request
    seed: int
    ticket: Ticket
    name: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    tokens: int = 0
    status: int = GONE  # until the answer is complete

    async def parts(self) -> AsyncIterator[dict[int, Part]]:
        """Yield what has come, by text, until all have ended; what ended them early is raised."""
        left = len(self.ticket.texts)
        while left:
            come = [await self.ticket.parts.get()]
            while not self.ticket.parts.empty():
                come.append(self.ticket.parts.get_nowait())
            merged: dict[int, Part] = {}
            for one in come:
                if isinstance(one, Exception):
                    raise one
                index, part = one
                merged[index] = merged[index] + part if index in merged else part
                left -= part.finish_reason is not None
            if self.tokens == 0:
                self.service.meters.first_token_seconds.add(time.monotonic() - self.ticket.arrived)
            self.tokens += sum(part.tokens for part in merged.values())
            yield merged
        self.status = 200

    def answer(self, choices: list[Json], **more: Json | None) -> Json:
        """Return a body or an event."""
        head = {"id": self.name, "object": "text_completion", "created": self.created}
        return {**head, "model": self.service.bundle.info.variant, "choices": choices, "seed": self.seed, **more}

    def choice(self, index: int, part: Part) -> Json:
        """Return one entry of `choices`."""
        wanted = self.request.logprobs is not None
        costs = completions.costs(part.choices, self.service.bundle.tokenizer) if wanted else None
        return completions.choice(index, part.text, part.finish_reason, costs)

    def echo(self, index: int) -> str:
        """Return what comes before text number `index`."""
        return self.request.prompts[index // self.request.samples] if self.request.echo else ""

    async def whole(self) -> Json:
        """Return the answer in one piece."""
        texts = {index: Part(self.echo(index), 0) for index in range(len(self.ticket.texts))}
        async for come in self.parts():
            texts |= {index: texts[index] + part for index, part in come.items()}
        usage = completions.usage(self.request, self.ticket.texts, self.tokens)
        return self.answer([self.choice(index, part) for index, part in texts.items()], usage=usage)

    async def events(self) -> AsyncIterator[str]:
        """Yield the answer as server-sent events; an error in mid-stream is the last of them."""
        options = self.request.stream_options
        with_usage = bool(options and options.include_usage)
        more: dict[str, Json | None] = {"usage": None} if with_usage else {}
        try:
            if self.request.echo:
                echoes = {index: Part(self.echo(index), 0) for index in range(len(self.ticket.texts))}
                yield _event(self.answer([self.choice(*item) for item in echoes.items()], **more))
            async for come in self.parts():
                yield _event(self.answer([self.choice(*item) for item in come.items()], **more))
        except Exception:  # logged by the scheduler
            self.status = 500
            yield _event(broken().body)
            return
        if with_usage:
            yield _event(self.answer([], usage=completions.usage(self.request, self.ticket.texts, self.tokens)))
        yield "data: [DONE]\n\n"

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Free the places that are still taken, and count the request; the server's end alone cancels it."""
        self.service.scheduler.cancel(self.ticket)
        if kind is asyncio.CancelledError:
            self.status = 503
            self.service.cut_off += 1
        self.service.meters.requests[str(self.status)] += 1
        self.service.meters.request_seconds.add(time.monotonic() - self.ticket.arrived)


def _event(value: Json) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def broken() -> Refused:
    """Return what a client hears of an error in the server."""
    return Refused(500, "decoding failed: the server's log says why")
