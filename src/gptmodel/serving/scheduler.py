"""Continuous batching: texts that many clients asked for grow together, join as there is room, leave when they end.

A turn of the engine's `Batch` feeds every running sequence once and draws its next token: a text does not depend on
who else is there. Turns run in a thread of their own, as many as fit into `BURST_SECONDS`; in between, on the event
loop, what came is handed out and who waits is let in, first come, first served. The first token of a text ends the
burst, so that nobody waits for it.

Nothing here grows without limit: `capacity` sequences run or wait, more are `Busy`, and each ends after its last token.

Source: iteration-level scheduling is Yu et al. (OSDI 2022), "Orca".
"""

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import Batch, Slots
from gptmodel.decoding.generation import banned_ids
from gptmodel.decoding.sequence import Delta, TextSequence
from gptmodel.errors import UserError

BURST_SECONDS = 0.02  # less than an eye notices; sending costs more than decoding, so tokens travel together
JOIN_AT_ONCE = 8  # sequences read per turn: those that run are held up by no more
LONGEST_RETRY_SECONDS = 60

log = logging.getLogger(__name__)


class Busy(UserError):
    """No room for more sequences; `retry_seconds` is how long the last one took."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class TextBatch:
    """The running sequences, as text. One thread at a time."""

    def __init__(self, slots: Slots, tokenizer: Tokenizer) -> None:
        self.size = slots.size
        self._batch = Batch[TextSequence](slots, banned_ids(tokenizer))

    @property
    def running(self) -> list[TextSequence]:
        """All that have a slot."""
        return list(self._batch.running)

    @property
    def free(self) -> int:
        """Slots without a sequence, or with one that nobody waits for any more."""
        return self.size - sum(not sequence.cancelled for sequence in self.running)

    def burst(self, joining: Sequence[TextSequence] = ()) -> dict[TextSequence, Delta]:
        """Take turns for `BURST_SECONDS`, or until a sequence has its first token; return what came of each."""
        deltas: dict[TextSequence, Delta] = {}
        end = time.monotonic() + BURST_SECONDS
        while True:
            for sequence, delta in self.turn(joining).items():
                deltas[sequence] = deltas[sequence] + delta if sequence in deltas else delta
            if joining or not self.running or time.monotonic() >= end:
                return deltas

    def turn(self, joining: Sequence[TextSequence] = ()) -> dict[TextSequence, Delta]:
        """Let cancelled sequences go and new ones in; feed all once; return what came of each. Finished ones leave."""
        self._leave([sequence for sequence in self.running if sequence.cancelled])
        for sequence in joining:
            if not sequence.cancelled:
                self._batch.join(sequence)
        if not self.running:
            return {}
        ids_B, logits_BV = self._batch.turn()
        pushed = zip(self.running, ids_B.tolist(), logits_BV, strict=True)
        deltas = {sequence: sequence.push(token, logits_V) for sequence, token, logits_V in pushed}
        self._leave([sequence for sequence, delta in deltas.items() if delta.finish_reason])
        return deltas

    def clear(self) -> list[TextSequence]:
        """Let all sequences go; return them."""
        gone = self.running
        self._leave(gone)
        return gone

    def _leave(self, leaving: Iterable[TextSequence]) -> None:
        for sequence in leaving:
            self._batch.leave(sequence)


@dataclass(eq=False)
class Answer:
    """The sequences of one request and what comes of them: (number of the sequence, delta), or what ended them."""

    sequences: list[TextSequence]
    arrived: float = field(default_factory=time.monotonic)
    deltas: asyncio.Queue[tuple[int, Delta] | Exception] = field(default_factory=asyncio.Queue)


class Scheduler:
    """Runs a `TextBatch` for the requests of an event loop; all methods belong to that loop."""

    def __init__(self, batch: TextBatch, max_waiting: int) -> None:
        self.capacity = batch.size + max_waiting
        self._batch = batch
        self._waiting: deque[TextSequence] = deque()
        self._answers: dict[TextSequence, tuple[Answer, int]] = {}  # of all that run or wait
        self._arrived = asyncio.Event()
        self._retry_seconds = 1
        self.tokens: Counter[str] = Counter()  # prompt and generated, since the start

    @property
    def waiting(self) -> int:
        """Sequences without a slot."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Sequences with a slot, that somebody waits for."""
        return len(self._answers) - len(self._waiting)

    def require(self, count: int) -> None:
        """Refuse as many sequences with `Busy` if there is no room for all of them."""
        if len(self._answers) + count > self.capacity:
            raise Busy(
                f"busy: {self.running} texts are running and {self.waiting} waiting, at most {self.capacity} in all:"
                f" try again in {self._retry_seconds} s",
                self._retry_seconds,
            )

    def submit(self, sequences: list[TextSequence]) -> Answer:
        """Queue the sequences of a request; `Busy` as `require`."""
        self.require(len(sequences))
        answer = Answer(sequences)
        self._answers |= {sequence: (answer, number) for number, sequence in enumerate(sequences)}
        self._waiting.extend(sequences)
        self.tokens["prompt"] += sum(sequence.prompt_length for sequence in sequences)
        self._arrived.set()
        return answer

    def cancel(self, answer: Answer) -> None:
        """Give up what is left of a request: its slots are free from the next turn on."""
        for sequence in answer.sequences:
            sequence.cancelled = True
            if self._answers.pop(sequence, None) and sequence in self._waiting:
                self._waiting.remove(sequence)

    async def run(self) -> None:
        """Serve until cancelled. An error inside ends the sequences that were running, not the service."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "decoder") as thread:
            while True:
                if not self._answers:
                    self._arrived.clear()
                    await self._arrived.wait()
                count = min(self._batch.free, JOIN_AT_ONCE, len(self._waiting))
                joining = [self._waiting.popleft() for _ in range(count)]
                try:
                    deltas = await loop.run_in_executor(thread, self._batch.burst, joining)
                except Exception as error:
                    log.exception("decoding failed: the texts that were running are lost")
                    self._fail({*joining, *self._batch.clear()}, error)
                else:
                    self._hand_out(deltas)

    def _hand_out(self, deltas: dict[TextSequence, Delta]) -> None:
        for sequence, delta in deltas.items():
            self.tokens["generated"] += delta.tokens
            if sequence not in self._answers:  # given up meanwhile
                continue
            answer, number = self._answers[sequence]
            if delta.finish_reason:
                del self._answers[sequence]
                self._retry_seconds = min(math.ceil(time.monotonic() - answer.arrived) or 1, LONGEST_RETRY_SECONDS)
            answer.deltas.put_nowait((number, delta))

    def _fail(self, sequences: Iterable[TextSequence], error: Exception) -> None:
        for sequence in sequences:
            if entry := self._answers.pop(sequence, None):
                entry[0].deltas.put_nowait(error)
