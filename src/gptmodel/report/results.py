"""All that the stages wrote about a run, read once: tables, figures and the page take their values from here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from gptmodel.evaluation import comparison
from gptmodel.results.bundle import Benchmark
from gptmodel.results.comparison import Pair
from gptmodel.results.corpus import CleanCorpus
from gptmodel.results.evaluation import Baselines, Breakdown, Inspection, Metrics, Novelty, Scored
from gptmodel.results.samples import Samples
from gptmodel.results.training import Meta, Point, Speed, Timeline, read_history
from gptmodel.strict import Strict


class Folders(Protocol):
    """Where the stages left what they made of a model: `layout.ModelFolder`, or one like it."""

    training: Path
    checkpoint: Path
    evaluation: Path
    details: Path
    inspection: Path
    benchmark: Path


class ModelResults(Strict):
    """The records of one model, from every stage that works on it."""

    meta: Meta
    speed: Speed
    history: list[Point]
    timeline: Timeline
    metrics: Metrics
    breakdown: Breakdown
    novelty: Novelty
    samples: Samples
    inspection: Inspection
    benchmark: Benchmark

    @classmethod
    def read(cls, folder: Folders) -> Self:
        """Read the folders of a model; `UserError` names the file that is missing or damaged."""
        return cls(
            meta=Meta.read(folder.checkpoint / "meta.json"),
            speed=Speed.read(folder.training / "speed.json"),
            history=read_history(folder.training / "history.csv"),
            timeline=Timeline.read(folder.training / "timeline.json"),
            metrics=Metrics.read(folder.evaluation / "metrics.json"),
            breakdown=Breakdown.read(folder.details / "breakdown.json"),
            novelty=Novelty.read(folder.details / "novelty.json"),
            samples=Samples.read(folder.details / "samples.json"),
            inspection=Inspection.read(folder.inspection / "inspection.json"),
            benchmark=Benchmark.read(folder.benchmark / "benchmark.json"),
        )


class Everything(Strict):
    """The results of a run: of its text, its baselines and its models, which stand in the order of params.yaml."""

    corpus: CleanCorpus
    baselines: Baselines
    models: dict[str, ModelResults]
    pairs: list[Pair]

    @classmethod
    def read(cls, folders: Mapping[str, Folders], clean: Path, baselines: Path) -> Self:
        """Read the folders of every model by name, of the clean text and of the baselines, and compare all pairs.

        The best baseline is compared too. `UserError` names the file that is missing or damaged.
        """
        counted = Baselines.read(baselines / "baselines.json")
        costs = {name: comparison.read(folder.details) for name, folder in folders.items()}
        costs[counted.best] = comparison.read(baselines)
        return cls(
            corpus=CleanCorpus.read(clean / "corpus.json"),
            baselines=counted,
            models={name: ModelResults.read(folder) for name, folder in folders.items()},
            pairs=comparison.pairs(costs, counted.main_split),
        )

    @property
    def main_split(self) -> Scored:
        """The split that the main figures of every model and baseline are of."""
        return self.baselines.main_split

    @property
    def best_first(self) -> dict[str, ModelResults]:
        """The models by their bits per character on the main split."""
        return dict(sorted(self.models.items(), key=lambda item: item[1].metrics.main.bits_per_char))

    def pair(self, one: str, other: str) -> Pair:
        """Return the comparison of two models (or a model and the best baseline), in the order in which it was made."""
        return next(pair for pair in self.pairs if {pair.a, pair.b} == {one, other})
