"""One text being decoded: from token ids to what is certain of the text, up to a stop string or the last token.

Shape suffix: V vocabulary.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gptmodel.arrays import Logits
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import prompts
from gptmodel.decoding.engine import TokenSequence
from gptmodel.decoding.sampling import InvalidSetting, Sampling, sample_rng

FinishReason = Literal["length", "stop"]


@dataclass(frozen=True)
class Settings:
    """How prompts are continued; `InvalidSetting` for a value that makes no sense.

    Each prompt's sample number i draws from the generator of (`seed`, i).
    """

    max_new_tokens: int
    sampling: Sampling
    seed: int
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InvalidSetting("max_new_tokens", f"must be 1 or above, not {self.max_new_tokens}")
        if self.seed < 0:
            raise InvalidSetting("seed", f"must be 0 or above, not {self.seed}")
        if "" in self.stop:
            raise InvalidSetting("stop", "must not be empty: a stop string is at least one character")


@dataclass(frozen=True)
class Choice:
    """One generated token: its log-probability, and what was likely in its place.

    `offset` is the character of the text (without the prompt) that it begins; log-probabilities are in nats, of the
    model itself, before temperature, penalties and cuts.
    """

    token: int
    offset: int
    log_probability: float
    top: dict[int, float]  # the likeliest tokens, in order


@dataclass(frozen=True)
class Delta:
    """What a text grew by: the characters that are certain now, and the choices that they belong to."""

    text: str
    tokens: int
    choices: tuple[Choice, ...] = ()
    finish_reason: FinishReason | None = None  # with the last one

    def __add__(self, later: "Delta") -> "Delta":
        """Return both as one."""
        choices = self.choices + later.choices
        return Delta(self.text + later.text, self.tokens + later.tokens, choices, later.finish_reason)


class StopFilter:
    """Passes text on until a stop string is complete; holds back only what may be the beginning of one.

    Where several end at the same character, the longest counts. However the text is cut into pieces, the same comes
    out.

    >>> filter = StopFilter(["fin."])
    >>> filter.push("la fi"), filter.push("lle, la fin. Et")
    ('la ', 'fille, la ')
    >>> filter.stopped
    True
    """

    def __init__(self, stop: Iterable[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Return what is certain to belong to the text now; nothing once `stopped`."""
        if self.stopped:
            return ""
        self._held += text
        found = [(place + len(stop), place) for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._release(min(found)[1])
        longest = max(map(len, self._stop), default=1)
        for start in range(max(0, len(self._held) - longest + 1), len(self._held)):
            if any(stop.startswith(self._held[start:]) for stop in self._stop):
                return self._release(start)
        return self._release(len(self._held))

    def flush(self) -> str:
        """Return what was held back: the text has ended, so no stop string will come."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, end: int) -> str:
        text = self._held[:end]
        self._held = self._held[end:]
        return text


class TextSequence(TokenSequence):
    """A prompt, its settings and sample number, and the text that grows from it.

    With `top`, each token's log-probability is kept, beside those of the `top` likeliest ones.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: str,
        settings: Settings,
        sample: int = 0,
        top: int | None = None,
        start: prompts.Start | None = None,
    ) -> None:
        """Encode the prompt, unless its `start` is known; `UserError` as `tokenizer.encode`."""
        self.prompt = prompt
        self.settings = settings
        self.sample = sample
        self.top = top
        self.cancelled = False  # nobody waits for it any more
        self.finish_reason: FinishReason | None = None
        start = start or prompts.start(tokenizer, prompt)
        self._owes_space = start.owes_space
        first_allowed_V = prompts.begins_with_space(tokenizer) if start.owes_space else None
        rng = sample_rng(settings.seed, sample)
        super().__init__(start.ids, tokenizer.vocab_size, settings.sampling, rng, first_allowed_V)
        self._stream = tokenizer.stream()
        self._filter = StopFilter(settings.stop)
        self._choices: deque[Choice] = deque()  # whose characters are not shown yet
        self._spelled = 0  # characters that the tokens so far spell
        self._shown = 0  # characters that are certain
        self._made = 0

    def push(self, token: int, logits_V: Logits | None = None) -> Delta:
        """Take the next token (for `top`, with what it was drawn from); the last delta has a `finish_reason`."""
        self._made += 1
        if self.top is not None and logits_V is not None:
            self._choices.append(_choice(token, self._spelled, logits_V, self.top))
        spelled = self._stream.push(token)
        if self._made == 1 and self._owes_space:
            spelled = spelled.removeprefix(" ")
        self._spelled += len(spelled)
        text = self._filter.push(spelled)
        if not self._filter.stopped and self._made == self.settings.max_new_tokens:
            text += self._filter.push(self._stream.flush())
            text += self._filter.flush()
            self.finish_reason = "length"
        if self._filter.stopped:
            self.finish_reason = "stop"
        self._shown += len(text)
        shown = []
        while self._choices and self._choices[0].offset < self._shown:
            shown.append(self._choices.popleft())
        return Delta(text, 1, tuple(shown), self.finish_reason)


def _choice(token: int, offset: int, logits_V: Logits, top: int) -> Choice:
    scores_V = logits_V.astype(np.float64) - float(logits_V.max())
    scores_V -= math.log(float(np.exp(scores_V).sum()))
    likeliest = np.argsort(-scores_V, kind="stable")[:top].tolist()
    return Choice(token, offset, float(scores_V[token]), {other: float(scores_V[other]) for other in likeliest})
