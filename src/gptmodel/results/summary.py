"""metrics.json at the repository's root: the main figures of all models, small enough for `dvc metrics show`."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from gptmodel.results.evaluation import Baselines, BaselineScore, Metrics, Scored, SplitScore
from gptmodel.results.record import Record


class SplitSummary(Record):
    """The main figures of a model on one split; the fields are those of `SplitScore`."""

    bits_per_char: float
    bits_per_char_low: float
    bits_per_char_high: float
    loss_nats: float
    sliding_bits_per_char: float
    dynamic_bits_per_char: float
    word_perplexity: float

    @classmethod
    def of(cls, score: SplitScore) -> Self:
        """Return the main figures of a score."""
        return cls.model_validate(score.model_dump(include=set(cls.model_fields)))


class ModelSummary(Record):
    """The main figures of one model."""

    parameters: int
    best_step: int
    splits: dict[Scored, SplitSummary]

    @classmethod
    def of(cls, metrics: Metrics) -> Self:
        """Return the main figures of metrics.json."""
        splits = {split: SplitSummary.of(score) for split, score in metrics.splits.items()}
        return cls(parameters=metrics.parameters, best_step=metrics.best_step, splits=splits)


class Summary(Record):
    """metrics.json. It holds no times, so that it is the same wherever the same weights are."""

    models: dict[str, ModelSummary]
    baselines: dict[Scored, BaselineScore] = Field(description="the best baseline (on validation) on every split")

    @classmethod
    def of(cls, metrics: Mapping[str, Metrics], baselines: Baselines) -> Self:
        """Return the summary of the models' metrics, by name, and of the baselines."""
        return cls(
            models={name: ModelSummary.of(scores) for name, scores in metrics.items()},
            baselines={split: baselines.best_on(split) for split in baselines.splits},
        )
