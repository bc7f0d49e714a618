"""Continuous batching: texts that many clients asked for grow together, join as there is room, leave when they end.

A turn feeds every running text once and draws its next token, by the rules and random numbers of `decoding.generate`:
a text does not depend on who else is there. Turns run in a thread of their own, as many as fit into `BURST_SECONDS`;
in between, on the event loop, what came is handed out and who waits is let in, first come, first served. The first
token of a text ends the burst, so that nobody waits for it.

Nothing here grows without limit: `capacity` texts run or wait, more are `Busy`, and each ends after its last token.

Left out on purpose: priorities, several models, preemption.
Source: iteration-level scheduling is Yu et al. (OSDI 2022), "Orca".

Shape suffixes: B texts, V vocabulary.
"""

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from gptmodel.arrays import Ints, Logits, Mask
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import generation
from gptmodel.decoding.engine import window_start
from gptmodel.decoding.generation import FinishReason, Settings
from gptmodel.decoding.sampling import Sampling, choose, sample_rng
from gptmodel.errors import UserError
from gptmodel.serving.slots import Slots

BURST_SECONDS = 0.02  # less than an eye notices; sending costs more than decoding, so tokens travel together
JOIN_AT_ONCE = 8  # texts read per turn: those that run are held up by no more
LONGEST_RETRY_SECONDS = 60

log = logging.getLogger(__name__)


class Busy(UserError):
    """No room for more texts; `retry_seconds` is how long the last one took."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


@dataclass(frozen=True)
class Choice:
    """One generated token: what it cost the model, and what was likely in its place.

    `offset` is the character of the text (without the prompt) that it begins; log-probabilities are in nats, of the
    model itself, before temperature, penalties and cuts.
    """

    token: int
    offset: int
    log_probability: float
    top: dict[int, float]  # the likeliest tokens, in order


@dataclass(frozen=True)
class Part:
    """The next part of a text: what is certain of it now, and the choices whose characters it holds."""

    text: str
    tokens: int
    choices: tuple[Choice, ...] = ()
    finish_reason: FinishReason | None = None

    def __add__(self, later: "Part") -> "Part":
        """Return both as one."""
        choices = self.choices + later.choices
        return Part(self.text + later.text, self.tokens + later.tokens, choices, later.finish_reason)


class Continuation:
    """One text on its way: a prompt, its settings and sample number; `top` likeliest tokens are kept, None: no costs.

    `UserError` as `tokenizer.encode`.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: str, settings: Settings, sample: int = 0, top: int | None = None
    ) -> None:
        row = self._row = generation.Row(tokenizer, prompt, sample, settings.stop)
        self.settings, self.top, self.cancelled = settings, top, False
        self.ids, self.prompt_tokens = list(row.ids), len(row.ids)
        self.rng = sample_rng(settings.seed, sample)
        self._first_allowed = generation.first_allowed(tokenizer, [row])
        self.seen_V = np.zeros(tokenizer.vocab_size, dtype=bool)
        self.seen_V[row.ids] = True
        self.start = -1  # of its window, while it has a slot
        self._stream, self._spelled, self._shown = tokenizer.stream(), 0, 0
        self._choices: deque[Choice] = deque()

    def logits(self, logits_V: Logits) -> Logits:
        """Return the logits of the tokens that may come next."""
        if self._first_allowed is None or self._row.tokens:
            return logits_V
        return np.where(self._first_allowed[0], logits_V, np.float32(-np.inf))

    def push(self, token: int, logits_V: Logits) -> Part:
        """Take the next token; the part with a `finish_reason` is the last."""
        row = self._row
        self.ids.append(token)
        self.seen_V[token] = True
        if self.top is not None:
            self._choices.append(_choice(token, self._spelled, logits_V, self.top))
            spelled = self._stream.push(token)
            self._spelled += len(spelled) - (row.tokens == 0 and row.owes_space and spelled.startswith(" "))
        text, reason = row.push(token), None
        if row.stopped:
            reason = row.finish("stop").finish_reason
        elif row.tokens == self.settings.max_new_tokens:
            text += row.flush()
            reason = row.finish("stop" if row.stopped else "length").finish_reason
        self._shown += len(text)
        shown = []
        while self._choices and self._choices[0].offset < self._shown:
            shown.append(self._choices.popleft())
        return Part(text, 1, tuple(shown), reason)


def _choice(token: int, offset: int, logits_V: Logits, top: int) -> Choice:
    scores_V = logits_V.astype(np.float64) - float(logits_V.max())
    scores_V -= math.log(float(np.exp(scores_V).sum()))
    likeliest = np.argsort(-scores_V, kind="stable")[:top].tolist()
    return Choice(token, offset, float(scores_V[token]), {other: float(scores_V[other]) for other in likeliest})


class Batch:
    """The running texts. One thread at a time."""

    def __init__(self, slots: Slots, tokenizer: Tokenizer) -> None:
        self.slots = slots
        self.running: list[Continuation] = []
        self._allowed_V: Mask | None = None  # all
        if tokenizer.unknown_id is not None:
            self._allowed_V = np.arange(slots.vocab_size) != tokenizer.unknown_id

    @property
    def free(self) -> int:
        """Slots without a text, or with one that nobody waits for any more."""
        return self.slots.size - sum(not text.cancelled for text in self.running)

    def burst(self, joining: Sequence[Continuation] = ()) -> dict[Continuation, Part]:
        """Take turns for `BURST_SECONDS`, or until a text has its first token; return what came of each."""
        parts: dict[Continuation, Part] = {}
        end = time.monotonic() + BURST_SECONDS
        while True:
            for text, part in self.turn(joining).items():
                parts[text] = parts[text] + part if text in parts else part
            if joining or not self.running or time.monotonic() >= end:
                return parts

    def turn(self, joining: Sequence[Continuation] = ()) -> dict[Continuation, Part]:
        """Let cancelled texts go and new ones in; feed all once; return what came of each. Finished texts leave."""
        self._leave(text for text in self.running if text.cancelled)
        self.running.extend(text for text in joining if not text.cancelled)
        if not self.running:
            return {}
        starts = [window_start(len(text.ids), self.slots.context) for text in self.running]
        fresh = [slot for slot, text in enumerate(self.running) if text.start != starts[slot]]
        windows = [text.ids[start:] for text, start in zip(self.running, starts, strict=True)]
        logits_BV = self.slots.feed(windows, fresh)
        parts: dict[Continuation, Part] = {}
        for slot, (text, token) in enumerate(zip(self.running, self._draw(logits_BV).tolist(), strict=True)):
            text.start = starts[slot]
            parts[text] = text.push(token, logits_BV[slot])
        self._leave(text for text, part in parts.items() if part.finish_reason)
        return parts

    def clear(self) -> list[Continuation]:
        """Let all texts go; return them."""
        gone = self.running.copy()
        self._leave(gone)
        return gone

    def _draw(self, logits_BV: Logits) -> Ints:
        """Return the next token of every text; texts that are drawn alike are drawn together."""
        alike: dict[Sampling, list[int]] = {}
        for slot, text in enumerate(self.running):
            alike.setdefault(text.settings.sampling, []).append(slot)
        ids_B = np.empty(len(self.running), dtype=np.int64)
        for slots in alike.values():
            texts = [self.running[slot] for slot in slots]
            sampling = texts[0].settings.sampling
            scores = np.stack([text.logits(logits_BV[slot]) for slot, text in zip(slots, texts, strict=True)])
            uniform = np.array([text.rng.random() for text in texts])
            seen = None if sampling.repetition_penalty == 1 else np.stack([text.seen_V for text in texts])
            ids_B[slots] = choose(scores, sampling, uniform, self._allowed_V, seen)
        return ids_B

    def _leave(self, leaving: Iterable[Continuation]) -> None:
        for text in list(leaving):
            slot, last = self.running.index(text), len(self.running) - 1
            self.slots.move(last, slot)
            self.running[slot] = self.running[last]
            self.running.pop()


@dataclass(eq=False)
class Ticket:
    """The texts of one request and what comes of them: (index of the text, part), or the error that ended them."""

    texts: list[Continuation]
    arrived: float = field(default_factory=time.monotonic)
    parts: asyncio.Queue[tuple[int, Part] | Exception] = field(default_factory=asyncio.Queue)


class Scheduler:
    """Runs a `Batch` for the requests of an event loop; all methods belong to that loop."""

    def __init__(self, batch: Batch, max_waiting: int) -> None:
        self.capacity = batch.slots.size + max_waiting
        self._batch = batch
        self._waiting: deque[Continuation] = deque()
        self._tickets: dict[Continuation, tuple[Ticket, int]] = {}  # of all texts that run or wait
        self._arrived = asyncio.Event()
        self._retry_seconds = 1
        self.tokens: Counter[str] = Counter()  # prompt and generated, since the start

    @property
    def waiting(self) -> int:
        """Texts without a slot."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Texts with a slot, that somebody waits for."""
        return len(self._tickets) - len(self._waiting)

    def require(self, texts: int) -> None:
        """Refuse as many texts with `Busy` if there is no room for all of them."""
        if len(self._tickets) + texts > self.capacity:
            raise Busy(
                f"busy: {self.running} texts are running and {self.waiting} waiting, at most {self.capacity} in all:"
                f" try again in {self._retry_seconds} s",
                self._retry_seconds,
            )

    def submit(self, texts: list[Continuation]) -> Ticket:
        """Queue the texts of a request; `Busy` as `require`."""
        self.require(len(texts))
        ticket = Ticket(texts)
        self._tickets |= {text: (ticket, index) for index, text in enumerate(texts)}
        self._waiting.extend(texts)
        self.tokens["prompt"] += sum(text.prompt_tokens for text in texts)
        self._arrived.set()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Give up what is left of a request: its slots are free from the next turn on."""
        for text in ticket.texts:
            text.cancelled = True
            if self._tickets.pop(text, None) and text in self._waiting:
                self._waiting.remove(text)

    async def run(self) -> None:
        """Serve until cancelled. An error inside ends the texts that were running, not the service."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "decoder") as thread:
            while True:
                if not self._tickets:
                    self._arrived.clear()
                    await self._arrived.wait()
                count = min(self._batch.free, JOIN_AT_ONCE, len(self._waiting))
                joining = [self._waiting.popleft() for _ in range(count)]
                try:
                    parts = await loop.run_in_executor(thread, self._batch.burst, joining)
                except Exception as error:
                    log.exception("decoding failed: the texts that were running are lost")
                    self._fail({*joining, *self._batch.clear()}, error)
                else:
                    self._hand_out(parts)

    def _hand_out(self, parts: dict[Continuation, Part]) -> None:
        for text, part in parts.items():
            self.tokens["generated"] += part.tokens
            if text not in self._tickets:  # given up meanwhile
                continue
            ticket, index = self._tickets[text]
            if part.finish_reason:
                del self._tickets[text]
                seconds = math.ceil(time.monotonic() - ticket.arrived)
                self._retry_seconds = min(max(1, seconds), LONGEST_RETRY_SECONDS)
            ticket.parts.put_nowait((index, part))

    def _fail(self, texts: Iterable[Continuation], error: Exception) -> None:
        for text in texts:
            if entry := self._tickets.pop(text, None):
                entry[0].parts.put_nowait(error)
