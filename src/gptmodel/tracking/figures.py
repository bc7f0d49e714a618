"""Which figures of a model MLflow shows: about twenty, named so that its charts begin with the validation loss.

MLflow draws a chart for every metric, in sections by the part of the name before "/"; sections and charts stand in
alphabetical order, hence `curves/validation_...` before `training/...`. What says how something was measured, and what
is the same in every run of a text, is a tag or a parameter. All of it lies in the artifacts.
"""

from typing import Any

from gptmodel.results.bundle import Benchmark, Cost, Parity
from gptmodel.results.evaluation import Metrics, Novelty
from gptmodel.results.training import Point, Speed

CURVES = {
    "validation_bits_per_char": "curves/validation_bits_per_char",
    "validation_loss_nats": "curves/validation_loss_nats",
    "train_bits_per_char": "training/bits_per_char",
    "train_loss_nats": "training/loss_nats",
    "learning_rate": "training/learning_rate",
    "characters": "training/characters",  # an x axis on which models of all levels compare
}
LIVE = "system/tokens_per_second"  # of the clock, so that no output holds it
SCORES = {
    "bits_per_char",
    "bits_per_char_low",
    "bits_per_char_high",
    "sliding_bits_per_char",
    "dynamic_bits_per_char",
}  # of the main split; of validation beside it the first is enough
NOVELTY = {"words_known", "repetition", "copied_8_word_sequences"}
SECONDS = "training/seconds"  # a run's duration is its training's


def curve(point: Point) -> dict[str, Any]:
    """Return a line of the history as a row of curves: `step`, and metrics by name."""
    return {"step": point.step, **{name: getattr(point, field) for field, name in CURVES.items()}}


def training(speed: Speed) -> dict[str, float]:
    """Return the metrics of the stage train."""
    return {SECONDS: speed.seconds, "training/tokens_per_second": speed.tokens_per_second}


def training_tags(speed: Speed) -> dict[str, Any]:
    """Return what else is known of the speed of a training; the device and the like are parameters."""
    rates = {"gflops_per_second", "matrix_gflops_per_second", "share_of_matrix_rate"}
    return {"training": speed.model_dump(include={*rates, "processes"})}


def scores(metrics: Metrics) -> dict[str, Any]:
    """Return the metrics of a model that say how well it predicts, by split."""
    groups: dict[str, dict[str, Any]] = {
        split: score.model_dump(include={"bits_per_char"}) for split, score in metrics.splits.items()
    }
    groups[metrics.main_split] = metrics.main.model_dump(include=SCORES)
    groups["validation"]["best_step"] = metrics.best_step
    return groups


def novelty(written: Novelty) -> dict[str, Any]:
    """Return the metrics of a model that say how new its samples are."""
    return {"novelty": written.samples.model_dump(include=NOVELTY)}


def held_out_tags(written: Novelty) -> dict[str, Any]:
    """Return the same of as much held-out text: what the novelty of the samples is to be read beside."""
    return {"held_out": written.held_out.model_dump(include=NOVELTY)}


def speed(measured: Benchmark) -> dict[str, Any]:
    """Return the metrics of the stage benchmark, of the graph that is fastest there."""
    return {"speed": measured.model_dump(include={"tokens_per_second", "first_token_latency_ms", "model_mb"})}


def parity_tags(graphs: dict[str, Parity | Cost]) -> dict[str, Any]:
    """Return how close each graph is to torch, a tag each."""
    return {"parity": {name: figures.model_dump_json() for name, figures in graphs.items()}}
