"""What one keeps of a training while it runs: the best weights, the history, and a sample at every evaluation.

An observer is told as it happens, so that curves can be watched. At the end all of it becomes the stage's folder.
Everything here but speeds is the same bytes for the same training, stopped and resumed or not.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from torch import Tensor

from gptmodel import files
from gptmodel.data.tokenizer import naming_nats
from gptmodel.decoding import samples
from gptmodel.decoding.sampling import Sampling
from gptmodel.model import checkpoint, networks
from gptmodel.model.networks import LanguageModel
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.params import Timeline as TimelineSettings
from gptmodel.results.training import Point, Speed, Timeline, TimelineEntry
from gptmodel.training.experiment import Experiment
from gptmodel.training.trainer import Evaluation


class Observer(Protocol):
    """Who is told how a training goes. It answers nothing, so that it cannot change a byte of an output."""

    def began(self, facts: Mapping[str, Any]) -> None:
        """Training begins or goes on, with these parameters."""

    def evaluated(self, point: Point, tokens_per_second: float) -> None:
        """A line of the history; the speed is NaN before the first step."""

    def sampled(self, entry: TimelineEntry) -> None:
        """An entry of the timeline."""


@dataclass
class Guarded:
    """An observer that cannot end a training: its first exception is said in one line, and nobody observes any more."""

    observer: Observer | None
    say: Callable[[str], None]

    def began(self, facts: Mapping[str, Any]) -> None:
        """Tell the observer."""
        self._tell(lambda observer: observer.began(facts))

    def evaluated(self, point: Point, tokens_per_second: float) -> None:
        """Tell the observer."""
        self._tell(lambda observer: observer.evaluated(point, tokens_per_second))

    def sampled(self, entry: TimelineEntry) -> None:
        """Tell the observer."""
        self._tell(lambda observer: observer.sampled(entry))

    def _tell(self, event: Callable[[Observer], None]) -> None:
        if self.observer is None:
            return
        try:
            event(self.observer)
        except Exception as error:  # any bug of an observer: it is said, and it must not lose a training
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.say(f"{type(self.observer).__name__} failed ({reason}): the training goes on unobserved")
            self.observer = None


@dataclass
class History:
    """Keeps what `record` is shown, and writes it at the end."""

    network: LanguageModel
    experiment: Experiment
    timeline: TimelineSettings
    observer: Observer
    points: list[Point] = field(default_factory=list)
    entries: list[TimelineEntry] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)  # tokens per second between evaluations
    best: dict[str, Tensor] = field(default_factory=dict)  # weights, on the CPU
    best_facts: dict[str, Any] = field(default_factory=dict)

    def record(self, evaluation: Evaluation) -> None:
        """Keep what an evaluation found, the weights if they are the best so far, and a sample."""
        point = self._point(evaluation)
        self.points.append(point)
        if not math.isnan(evaluation.tokens_per_second):
            self.speeds.append(evaluation.tokens_per_second)
        self.observer.evaluated(point, evaluation.tokens_per_second)
        if evaluation.is_best:
            weights = networks.weights(self.network)
            self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}
            self.best_facts = {"best_step": point.step, "validation_loss_nats": point.validation_loss_nats}
        entry = self._sample(point)
        self.entries.append(entry)
        self.observer.sampled(entry)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a resumed training needs to write the same files."""
        facts = {
            "points": [point.model_dump(mode="json") for point in self.points],
            "entries": [entry.model_dump(mode="json") for entry in self.entries],
            "speeds": self.speeds,
            "best": self.best_facts,
        }
        return {f"best/{name}": tensor for name, tensor in self.best.items()}, facts

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.points = [Point.model_validate(point) for point in facts["points"]]
        self.entries = [TimelineEntry.model_validate(entry) for entry in facts["entries"]]
        self.speeds = facts["speeds"]
        self.best_facts = facts["best"]
        self.best = {name.removeprefix("best/"): t for name, t in tensors.items() if name.startswith("best/")}

    def write(self, folder: Path, speed: Speed) -> None:
        """Write the folder of the stage, whole: checkpoint/, history.csv, timeline.json and .md, speed.json."""
        timeline = Timeline(entries=self.entries)
        rows = [point.model_dump(mode="json") for point in self.points]
        with files.whole_folder(folder) as partial:
            checkpoint.save(partial / "checkpoint", self.best, self.experiment.meta.model_copy(update=self.best_facts))
            files.write_text(partial / "history.csv", pd.DataFrame(rows).to_csv(index=False))
            timeline.write(partial / "timeline.json")
            files.write_text(partial / "timeline.md", timeline.markdown())
            speed.write(partial / "speed.json")

    def tokens_per_second(self) -> float:
        """Return the median speed between evaluations."""
        return statistics.median(self.speeds)

    def _point(self, evaluation: Evaluation) -> Point:
        """Return one line of history.csv; bits are per character of the text, every character counted."""
        data = self.experiment.data
        ids = data.ids["validation"]
        per_token = data.characters_per_token("train")
        nats = evaluation.validation_nats + float(naming_nats(ids, data.tokenizer.unknown_id).sum())
        trained = not math.isnan(evaluation.train_loss_nats)
        return Point(
            step=evaluation.step,
            tokens=evaluation.tokens,
            characters=round(evaluation.tokens * per_token),
            train_loss_nats=evaluation.train_loss_nats if trained else None,
            validation_loss_nats=nats / len(ids),
            train_bits_per_char=evaluation.train_loss_nats / per_token / math.log(2) if trained else None,
            validation_bits_per_char=nats / math.log(2) / data.characters["validation"],
            learning_rate=evaluation.learning_rate,
        )

    def _sample(self, point: Point) -> TimelineEntry:
        """Let the network write, so that one can watch the language appear."""
        settings = self.timeline
        seed = self.experiment.meta.seed
        tokenizer = self.experiment.data.tokenizer
        was_training = self.network.training
        decoder = TorchDecoder(self.network.eval())
        sampling = Sampling(settings.temperature)
        (sample,) = samples.write(decoder, tokenizer, [settings.prompt], sampling, settings.max_new_tokens, seed)
        self.network.train(was_training)
        return TimelineEntry(step=point.step, bits_per_char=point.validation_bits_per_char, sample=sample)
