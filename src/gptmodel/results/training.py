"""What the stage train leaves beside the weights: meta.json, history.csv, timeline.json, speed.json."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from gptmodel.errors import UserError
from gptmodel.params import Engine, Level, Model
from gptmodel.results.corpus import TextFacts
from gptmodel.results.record import RERUN, Record
from gptmodel.results.samples import Sample


class Meta(Record):
    """checkpoint/meta.json: what one has to know about saved weights, and all that they were trained with."""

    format_version: Literal[3] = 3
    name: str = Field(description="of the model, under models: in params.yaml")
    model: Model = Field(discriminator="network", description="its section of params.yaml")
    engine: Engine = Field(description="the section engine of params.yaml")
    seed: int
    vocab_size: int
    tokenizer_sha256: str
    text: TextFacts
    fingerprint: str = Field(description="of everything that determines the weights")
    best_step: int = Field(0, description="whose weights these are")
    validation_loss_nats: float | None = Field(None, description="of these weights, per token")
    weights_sha256: str = ""

    @property
    def level(self) -> Level:
        """The level of its tokenizer: char, word or bpe."""
        return self.model.tokenizer


class Speed(Record):
    """speed.json: how fast a training went. It tells of a clock, so nothing deterministic depends on it."""

    seconds: float = Field(description="wall time, evaluations and earlier sessions included")
    tokens_per_second: int = Field(description="median between evaluations, which do not count")
    gflops_per_second: float
    matrix_gflops_per_second: float = Field(description="of this machine's large matrix products")
    share_of_matrix_rate: float
    processes: int
    device: str
    precision: str = Field(description="of the matrix products")
    execution: str
    threads: int


class Point(Record):
    """One line of history.csv; bits are per character of the text, every character counted."""

    step: int
    tokens: int = Field(description="read so far")
    characters: int = Field(description="the same in characters")
    train_loss_nats: float | None = Field(description="per token since the last line, with dropout; none at step 0")
    validation_loss_nats: float = Field(description="per token, of the whole validation text")
    train_bits_per_char: float | None
    validation_bits_per_char: float
    learning_rate: float = Field(description="of AdamW, at the last step")


def read_history(path: Path) -> list[Point]:
    """Return the lines of history.csv; `UserError` where it is missing or damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{key: _number(cell) for key, cell in row.items()} for row in csv.DictReader(file)]
        if not rows:
            raise ValueError("it has no lines")
        return [Point.model_validate(row) for row in rows]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {RERUN}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}): {RERUN}") from None


def _number(cell: str) -> float | int | None:
    if cell == "":
        return None
    value = float(cell)
    return int(cell) if cell.lstrip("-").isdigit() else (None if math.isnan(value) else value)


class TimelineEntry(Record):
    """What the model wrote at one evaluation of its training."""

    step: int
    bits_per_char: float = Field(description="of the validation text")
    sample: Sample

    def markdown(self) -> str:
        """Return the entry for reading."""
        return f"## step {self.step}: {self.bits_per_char:.3f} bits per character\n\n{self.sample.markdown()}"


class Timeline(Record):
    """timeline.json: the samples of all evaluations, in order."""

    entries: Sequence[TimelineEntry]

    def markdown(self) -> str:
        """Return timeline.md."""
        return "\n".join(entry.markdown() for entry in self.entries)
