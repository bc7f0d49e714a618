"""Text in, text out: a tokenizer and a decoder continue prompts, all at once or as a stream of pieces.

What a prompt becomes before the model sees it:

- It is put into Unicode NFC (é as one character), as cleaning does with the training text.
- A character that a char-level vocabulary lacks is written as its plain equivalent (’ as ', a no-break space as a
  space) where the vocabulary has that, else it is left out; `unknown_characters` names what is left out.
- An empty prompt starts from a line break, or from the first token of a vocabulary without one; it is not shown.
- At word and bpe level a space belongs to the word after it. So the last space of a prompt is handed to the first
  generated token, which then must begin with a space; it is not shown twice.
- Of a long prompt the model sees the end only (`decoding.window_start`).

The unknown token is never generated. Text ends before the first stop string to be completed.

Left out on purpose: chat templates, repetition penalties, log-probabilities.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import engine
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.sampling import InvalidSetting, Sampling, sample_rng

MAX_ROWS = 32  # decoded at once; beyond it throughput grows little on a CPU
MAX_LOGITS = 1 << 26  # 256 MiB of fp32 when a batch of full contexts is read
EQUIVALENTS = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "ʼ": "'",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "\t": " ",
        "…": "...",
        "–": "—",
        "\r": "",
    }
)

FinishReason = Literal["length", "stop"]


@dataclass(frozen=True)
class Settings:
    """How prompts are continued. Each prompt's sample number i draws from the generator of (`seed`, i)."""

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
class Generation:
    """One finished continuation; `text` does not hold the prompt, `tokens` counts the generated ones."""

    prompt: str
    sample: int
    text: str
    tokens: int
    finish_reason: FinishReason


@dataclass(frozen=True)
class Piece:
    """The next piece of one row's text; `finished` comes with the last one."""

    row: int
    text: str
    finished: Generation | None = None


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
        text, self._held = self._held[:end], self._held[end:]
        return text


class Row:
    """One prompt on its way: its ids, and the text that has come so far."""

    def __init__(self, tokenizer: Tokenizer, prompt: str, sample: int, stop: tuple[str, ...]) -> None:
        self.prompt, self.sample = prompt, sample
        seen = known_text(tokenizer, prompt)
        self.owes_space = tokenizer.level != "char" and len(seen) > 1 and seen.endswith(" ")
        self.ids: list[int] = tokenizer.encode(seen[:-1] if self.owes_space else seen).tolist() or _start(tokenizer)
        self.finish_reason: FinishReason | None = None
        self.tokens = 0
        self._text: list[str] = []
        self._stream, self._filter = tokenizer.stream(), StopFilter(stop)

    def push(self, token: int) -> str:
        """Take the next token and return the text that is certain now."""
        self.tokens += 1
        text = self._stream.push(token)
        if self.tokens == 1 and self.owes_space:
            text = text.removeprefix(" ")
        return self._add(self._filter.push(text))

    def flush(self) -> str:
        """Return the rest of the text after the last token."""
        text = self._filter.push(self._stream.flush())
        return self._add(text + self._filter.flush())

    def finish(self, reason: FinishReason) -> Generation:
        """Return the finished continuation."""
        self.finish_reason = reason
        return Generation(self.prompt, self.sample, "".join(self._text), self.tokens, reason)

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._filter.stopped

    def _add(self, text: str) -> str:
        self._text.append(text)
        return text


def known_text(tokenizer: Tokenizer, prompt: str) -> str:
    """Return a prompt in NFC, its unknown characters replaced by their plain equivalents or left out."""
    text = unicodedata.normalize("NFC", prompt)
    for character in tokenizer.unknown_characters(text):
        plain = character.translate(EQUIVALENTS)
        text = text.replace(character, "" if tokenizer.unknown_characters(plain) else plain)
    return text


def unknown_characters(tokenizer: Tokenizer, prompts: Iterable[str]) -> list[str]:
    """Return the distinct characters that are left out of the prompts: neither they nor an equivalent are known."""
    unknown = tokenizer.unknown_characters("".join(unicodedata.normalize("NFC", prompt) for prompt in prompts))
    return [character for character in unknown if tokenizer.unknown_characters(character.translate(EQUIVALENTS))]


def notes(tokenizer: Tokenizer, prompts: Sequence[str], context: int) -> Iterator[str]:
    """Yield what a person should know of the prompts before reading what the model makes of them, a line each."""
    if left_out := unknown_characters(tokenizer, prompts):
        yield f"left out of the prompts, as the model has never seen them: {' '.join(map(repr, left_out))}"
    if "" in prompts:
        yield "an empty prompt starts from a line break"
    longest = max(len(tokenizer.encode(known_text(tokenizer, prompt))) for prompt in prompts)
    if longest > context > 1:
        yield f"the longest prompt has {longest:,} tokens: the model sees the last {context:,} at most"


def stream(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], settings: Settings, samples: Sequence[int] = ()
) -> Iterator[Piece]:
    """Continue all prompts in one batch, yielding text as it comes; `samples` numbers the rows (default: 0)."""
    numbers = samples or [0] * len(prompts)
    rows = [Row(tokenizer, *pair, settings.stop) for pair in zip(prompts, numbers, strict=True)]
    tokens = engine.generate(
        decoder,
        [row.ids for row in rows],
        settings.max_new_tokens,
        settings.sampling,
        [sample_rng(settings.seed, row.sample) for row in rows],
        [] if tokenizer.unknown_id is None else [tokenizer.unknown_id],
        first_allowed(tokenizer, rows),
    )
    for ids_B in tokens:
        for index, (row, token) in enumerate(zip(rows, ids_B.tolist(), strict=True)):
            if row.finish_reason is None:
                text = row.push(token)
                if row.stopped:
                    yield Piece(index, text, row.finish("stop"))
                elif text:
                    yield Piece(index, text)
        if all(row.finish_reason for row in rows):
            return
    for index, row in enumerate(rows):
        if row.finish_reason is None:
            text = row.flush()
            yield Piece(index, text, row.finish("stop" if row.stopped else "length"))


def complete(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], settings: Settings, num_samples: int = 1
) -> Iterator[Generation]:
    """Yield `num_samples` finished continuations of each prompt, in the order of the prompts.

    Rows are decoded in batches of bounded memory; a row's text does not depend on the others.
    """
    if num_samples < 1:
        raise InvalidSetting("num_samples", f"must be 1 or above, not {num_samples}")
    pairs = [(prompt, sample) for prompt in prompts for sample in range(num_samples)]
    rows = max(1, min(MAX_ROWS, MAX_LOGITS // (decoder.context * decoder.vocab_size)))
    for first in range(0, len(pairs), rows):
        some, numbers = zip(*pairs[first : first + rows], strict=True)
        pieces = stream(decoder, tokenizer, some, settings, numbers)
        finished = {piece.row: piece.finished for piece in pieces if piece.finished}
        yield from (finished[row] for row in range(len(some)))


def _start(tokenizer: Tokenizer) -> list[int]:
    """Return what an empty prompt stands for."""
    if not tokenizer.unknown_characters("\n"):
        return [int(token) for token in tokenizer.encode("\n")]
    return [next(token for token in range(tokenizer.vocab_size) if token != tokenizer.unknown_id)]


def first_allowed(tokenizer: Tokenizer, rows: Sequence[Row]) -> npt.NDArray[np.bool_] | None:
    """Return which first tokens each row may take: all, or those that begin with the space its prompt ended with."""
    if not any(row.owes_space for row in rows):
        return None
    spaced_V = np.array([token.startswith(b" ") for token in tokenizer.token_bytes])
    return np.array([spaced_V if row.owes_space else np.ones_like(spaced_V) for row in rows])
