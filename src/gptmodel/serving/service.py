"""What a server serves, and one request on its way from the batch to its answer; no HTTP here (see `app`)."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gptmodel.decoding import prompts
from gptmodel.decoding.engine import open_slots
from gptmodel.decoding.sequence import Delta, Settings, TextSequence
from gptmodel.errors import UserError
from gptmodel.runtime.bundle import Bundle
from gptmodel.runtime.session import Device
from gptmodel.serving import completions, wire
from gptmodel.serving.limits import Limits
from gptmodel.serving.metrics import Metrics
from gptmodel.serving.refused import Refused
from gptmodel.serving.scheduler import Answer, Busy, Scheduler, TextBatch


@dataclass(eq=False)
class Service:
    """A bundle, its scheduler and its figures."""

    bundle: Bundle
    limits: Limits
    scheduler: Scheduler
    metrics: Metrics = field(init=False)
    draining: bool = False  # no request is taken any more
    cut_off: int = 0  # requests that the end of the server has ended

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.scheduler)

    @classmethod
    def open(cls, path: Path, device: Device, threads: int, graph: str | None, limits: Limits) -> Self:
        """Load a bundle; on a CPU the default graph is exact: its texts do not depend on their neighbours."""
        bundle = Bundle.load(path, device, threads, graph, exact=device == "cpu")
        try:
            slots = open_slots(bundle.decoder, limits.max_concurrent)
        except MemoryError:
            raise UserError(f"no memory for {limits.max_concurrent} texts at once: lower --max-concurrent") from None
        batch = TextBatch(slots, bundle.tokenizer)
        return cls(bundle, limits, Scheduler(batch, limits.max_queue))

    @property
    def name(self) -> str:
        """The model's."""
        return self.bundle.info.model

    @property
    def summary(self) -> str:
        """What is served, in one line."""
        bundle, limits = self.bundle, self.limits
        return (
            f"{bundle.path}: {self.name}, {bundle.graph} on {bundle.device},"
            f" {limits.max_concurrent} texts at once, {limits.max_queue} may wait"
        )

    @property
    def model(self) -> wire.Model:
        """The model as it is listed."""
        info = self.bundle.info
        return wire.Model(
            id=self.name,
            created=int(self.bundle.path.stat().st_mtime),
            level=info.level,
            context=info.context,
            vocab_size=info.vocab_size,
            parameters=info.parameters,
            graph=self.bundle.graph,
            corpus=info.corpus,
            example_prompt=info.example_prompt,
            limits=self.limits,
            defaults=wire.Defaults.within(self.limits),
        )

    async def submit(self, request: wire.CompletionRequest) -> "Completion":
        """Queue the texts of a request; `Refused` where there is no room, or the prompt cannot be encoded."""
        settings = completions.settings(request, self.limits)
        try:
            self.scheduler.require(len(request.prompts) * request.samples)  # before the work of encoding
            sequences = await asyncio.to_thread(self._sequences, request, settings)
            answer = self.scheduler.submit(sequences)
        except Busy as busy:
            raise Refused(429, str(busy), retry_seconds=busy.retry_seconds) from None
        except UserError as error:
            raise Refused(400, str(error), "prompt") from None
        return Completion(self, request, settings, answer)

    def _sequences(self, request: wire.CompletionRequest, settings: Settings) -> list[TextSequence]:
        """Encode the prompts, each once."""
        tokenizer = self.bundle.tokenizer
        return [
            TextSequence(tokenizer, prompt, settings, sample, request.logprobs, start)
            for prompt in request.prompts
            for start in [prompts.start(tokenizer, prompt)]
            for sample in range(request.samples)
        ]


class Completion:
    """One request on its way to its answer; leaving its `with` block frees the slots that are still taken."""

    def __init__(self, service: Service, request: wire.CompletionRequest, settings: Settings, answer: Answer) -> None:
        self._service = service
        self._request = request
        self._settings = settings
        self._answer = answer
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.scheduler.cancel(self._answer)
        self._service.metrics.request_seconds.observe(time.monotonic() - self._answer.arrived)

    async def whole(self) -> str:
        """Return the answer in one piece, as JSON."""
        deltas = self._prompts()
        async for new in self._deltas():
            deltas |= {index: deltas[index] + delta for index, delta in new.items()}
        return await asyncio.to_thread(self._json, deltas)

    def _json(self, deltas: dict[int, Delta]) -> str:
        return self._response(deltas, usage=self._usage()).model_dump_json(exclude_unset=True)

    async def events(self) -> AsyncIterator[wire.CompletionResponse]:
        """Yield the answer in pieces as they come, the prompts first if they are to be echoed."""
        options = self._request.stream_options
        with_usage = options is not None and options.include_usage
        no_usage = {"usage": None} if with_usage else {}
        if self._request.echo:
            yield self._response(self._prompts(), **no_usage)
        async for deltas in self._deltas():
            yield self._response(deltas, **no_usage)
        if with_usage:
            yield self._response({}, usage=self._usage())

    async def _deltas(self) -> AsyncIterator[dict[int, Delta]]:
        """Yield what has come, by text, until all have ended; what ended them early is raised."""
        left = len(self._answer.sequences)
        while left:
            arrived = [await self._answer.deltas.get()]
            while not self._answer.deltas.empty():
                arrived.append(self._answer.deltas.get_nowait())
            deltas: dict[int, Delta] = {}
            for item in arrived:
                if isinstance(item, Exception):
                    raise item
                index, delta = item
                deltas[index] = deltas[index] + delta if index in deltas else delta
                left -= delta.finish_reason is not None
            if self._tokens == 0:
                self._service.metrics.first_token_seconds.observe(time.monotonic() - self._answer.arrived)
            self._tokens += sum(delta.tokens for delta in deltas.values())
            yield deltas

    def _prompts(self) -> dict[int, Delta]:
        """Return what comes before each text: its prompt, if it is to be echoed."""
        texts = enumerate(self._answer.sequences)
        return {index: Delta(sequence.prompt if self._request.echo else "", 0) for index, sequence in texts}

    def _usage(self) -> wire.Usage:
        read = sum(sequence.prompt_length for sequence in self._answer.sequences[:: self._request.samples])
        return wire.Usage(prompt_tokens=read, completion_tokens=self._tokens, total_tokens=read + self._tokens)

    def _response(self, deltas: dict[int, Delta], **usage: wire.Usage | None) -> wire.CompletionResponse:
        """Return an answer or an event; `usage` is in it only if it is given, even as None."""
        return wire.CompletionResponse(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._service.name,
            choices=[self._choice(index, delta) for index, delta in deltas.items()],
            seed=self._settings.seed,
            **usage,
        )

    def _choice(self, index: int, delta: Delta) -> wire.CompletionChoice:
        wanted = self._request.logprobs is not None
        logprobs = completions.logprobs(delta.choices, self._service.bundle.tokenizer) if wanted else None
        return wire.CompletionChoice(index=index, text=delta.text, logprobs=logprobs, finish_reason=delta.finish_reason)
