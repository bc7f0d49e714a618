"""The results of a run as tables and as text for reading."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from gptmodel.report.results import Everything, ModelResults

EXCERPT = 240  # characters


def comparison(everything: Everything) -> pd.DataFrame:
    """Return one row per model, the best first: bits per character on test (validation if there is no test split).

    The baselines of the same tokenizer stand beside each model: one that scores worse than counts of pairs of its
    tokens has learned nothing useful.
    """
    return pd.DataFrame([_row(name, model) for name, model in everything.best_first.items()])


def _row(name: str, model: ModelResults) -> dict[str, Any]:
    metrics, benchmark = model.metrics, model.benchmark
    score = metrics.main
    return {
        "model": name,
        "parameters": metrics.parameters,
        "training_seconds": model.speed.seconds,
        "training_tokens_per_second": model.speed.tokens_per_second,
        "best_step": metrics.best_step,
        "validation_bits_per_char": metrics.validation.bits_per_char,
        f"{metrics.main_split}_bits_per_char": score.bits_per_char,
        "bits_per_char_low": score.bits_per_char_low,
        "bits_per_char_high": score.bits_per_char_high,
        "sliding_bits_per_char": score.sliding_bits_per_char,
        "dynamic_bits_per_char": score.dynamic_bits_per_char,
        "bits_per_byte": score.bits_per_byte,
        "loss_nats": score.loss_nats,
        "word_perplexity": score.word_perplexity,
        "unigram_bits_per_char": score.unigram_bits_per_char,
        "bigram_bits_per_char": score.bigram_bits_per_char,
        "first_token_latency_ms": benchmark.first_token_latency_ms,
        **{f"tokens_per_second_{batch}": rate for batch, rate in benchmark.tokens_per_second.items()},
    }


def minutes(seconds: float) -> str:
    """Return a time for reading.

    >>> minutes(184.6)
    '3:05'
    """
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {  # column -> (heading, format) of the Markdown table
    "model": ("model", str),
    "parameters": ("parameters", "{:,}".format),
    "validation_bits_per_char": ("bits/char validation", "{:.3f}".format),
    "test_bits_per_char": ("bits/char test", "**{:.3f}**".format),
    "bits_per_char_low": ("from (95 %)", "{:.3f}".format),
    "bits_per_char_high": ("to", "{:.3f}".format),
    "bits_per_byte": ("bits/byte", "{:.3f}".format),
    "word_perplexity": ("perplexity per word", "{:,.0f}".format),
    "unigram_bits_per_char": ("baseline: unigram", "{:.3f}".format),
    "bigram_bits_per_char": ("baseline: bigram", "{:.3f}".format),
    "training_seconds": ("trained in (min:s)", minutes),
    "training_tokens_per_second": ("training tokens/s", "{:,.0f}".format),
    "tokens_per_second_batch_1": ("ONNX tokens/s", "{:,.0f}".format),
}


def comparison_markdown(everything: Everything) -> str:
    """Return the comparison for reading: a table of rounded figures, and a line with the score of every baseline."""
    table = comparison(everything)
    shown = [column for column in COLUMNS if column in table]
    lines = [
        "| " + " | ".join(COLUMNS[column][0] for column in shown) + " |",
        "|" + "|".join("---" if column == "model" else "---:" for column in shown) + "|",
    ]
    for row in table.to_dict(orient="records"):
        lines.append("| " + " | ".join(COLUMNS[column][1](row[column]) for column in shown) + " |")
    split = everything.main_split
    scores = ", ".join(f"{score.name} {score.bits_per_char:.3f}" for score in everything.baselines.splits[split])
    return "\n".join([*lines, "", f"The baselines, in bits per character of {split}: {scores}."]) + "\n"


def positions(everything: Everything) -> pd.DataFrame:
    """Return the loss of every model by the number of tokens that the prediction saw, the name as first column."""
    rows = [
        {"model": name, "tokens_seen": bin.tokens_seen, "bits_per_char": bin.bits_per_char}
        for name, model in everything.models.items()
        for bin in model.breakdown.by_position
    ]
    return pd.DataFrame(rows, columns=["model", "tokens_seen", "bits_per_char"])


def curves(everything: Everything) -> pd.DataFrame:
    """Return all histories below each other, with the model's name as first column."""
    columns = ["model", "step", "characters", "train_bits_per_char", "validation_bits_per_char"]
    rows = [
        {"model": name, **point.model_dump()} for name, model in everything.models.items() for point in model.history
    ]
    return pd.DataFrame(rows, columns=columns)


def gallery(everything: Everything) -> str:
    """Return every model's samples as Markdown."""
    parts = [f"## {name}\n\n{model.samples.markdown()}" for name, model in everything.models.items()]
    return "\n".join(["# What the models write\n", *parts])


def excerpt(everything: Everything) -> str:
    """Return the beginning of every model's first sample, for the README."""
    return "\n".join(
        f"**{name}**, {model.samples.samples[0].markdown(EXCERPT)}" for name, model in everything.models.items()
    )
