"""What a person sees of a whole run: the comparison table, the curves, the gallery of samples.

The only module that draws (matplotlib). It reads the DVC outputs of every variant and derives everything from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gptmodel.decoding.samples import Sample
from gptmodel.errors import UserError
from gptmodel.outputs import read_json

EXCERPT = 240  # characters


@dataclass(frozen=True)
class Result:
    """What the stages wrote about one variant."""

    metrics: dict[str, Any]  # metrics.json
    training: dict[str, Any]  # training.json: how fast it was trained
    benchmark: dict[str, Any]  # benchmark.json
    breakdown: dict[str, Any]  # breakdown.json
    history: pd.DataFrame  # history.csv
    samples: list[Sample]  # samples.json

    @classmethod
    def read(cls, folder: Path) -> "Result":
        """Read models/VARIANT; `UserError` names the file that is missing or damaged."""
        try:
            metrics, training, benchmark, breakdown, samples = (
                read_json(folder / f"{name}.json")
                for name in ("metrics", "training", "benchmark", "breakdown", "samples")
            )
            history = pd.read_csv(folder / "history.csv")
            return cls(metrics, training, benchmark, breakdown, history, [Sample(**sample) for sample in samples])
        except FileNotFoundError as error:
            raise UserError(f"{error.filename} does not exist: run `dvc repro`") from None
        except ValueError as error:
            raise UserError(f"{folder}: a result cannot be read ({error}): run `dvc repro`") from None


def comparison(results: Mapping[str, Result]) -> pd.DataFrame:
    """Return one row per variant, best first: bits per character on test (validation if there is no test split).

    The counts of the same tokenizer stand beside each network as floors: a network above its bigram learned nothing
    that counting pairs does not know.
    """
    rows = []
    for name, result in results.items():
        split = "test" if "test" in result.metrics else "validation"
        score, speed = result.metrics[split], result.benchmark["tokens_per_second"]
        rows.append(
            {
                "model": name,
                "parameters": result.metrics["parameters"],
                "training_seconds": result.training["seconds"],
                "training_tokens_per_second": result.training["tokens_per_second"],
                "best_step": result.metrics["best_step"],
                "validation_bits_per_char": result.metrics["validation"]["bits_per_char"],
                f"{split}_bits_per_char": score["bits_per_char"],
                "bits_per_char_low": score["bits_per_char_low"],
                "bits_per_char_high": score["bits_per_char_high"],
                "sliding_bits_per_char": score["sliding_bits_per_char"],
                "dynamic_bits_per_char": score["dynamic_bits_per_char"],
                "bits_per_byte": score["bits_per_byte"],
                "loss_nats": score["loss_nats"],
                "word_perplexity": score["word_perplexity"],
                "unigram_bits_per_char": score["unigram_bits_per_char"],
                "bigram_bits_per_char": score["bigram_bits_per_char"],
                "first_token_latency_ms": result.benchmark["first_token_latency_ms"],
                **{f"tokens_per_second_{batch}": rate for batch, rate in speed.items()},
            }
        )
    table = pd.DataFrame(rows)
    return table.sort_values([c for c in ("test_bits_per_char", "validation_bits_per_char") if c in table])


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
    "unigram_bits_per_char": ("floor: unigram", "{:.3f}".format),
    "bigram_bits_per_char": ("floor: bigram", "{:.3f}".format),
    "training_seconds": ("trained in (min:s)", minutes),
    "training_tokens_per_second": ("training tokens/s", "{:,.0f}".format),
    "tokens_per_second_batch_1": ("ONNX tokens/s", "{:,.0f}".format),
}


def markdown_table(table: pd.DataFrame) -> str:
    """Return the comparison as a Markdown table, figures rounded for reading."""
    shown = [column for column in COLUMNS if column in table]
    lines = [
        "| " + " | ".join(COLUMNS[column][0] for column in shown) + " |",
        "|" + "|".join("---" if column == "model" else "---:" for column in shown) + "|",
    ]
    for row in table.to_dict(orient="records"):
        lines.append("| " + " | ".join(COLUMNS[column][1](row[column]) for column in shown) + " |")
    return "\n".join(lines) + "\n"


def counts(ladder: Mapping[str, Any]) -> str:
    """Return in one line what counting characters pays, from ladder.json: on test, or validation without a test split.

    >>> rungs = [{"name": "uniform", "bits_per_char": 6.58}, {"name": "unigram", "bits_per_char": 4.51}]
    >>> counts({"splits": {"validation": rungs}})
    'Counting characters pays, in bits per character of validation: uniform 6.580, unigram 4.510.'
    """
    split = "test" if "test" in ladder["splits"] else "validation"
    rungs = ", ".join(f"{rung['name']} {rung['bits_per_char']:.3f}" for rung in ladder["splits"][split])
    return f"Counting characters pays, in bits per character of {split}: {rungs}."


def positions(results: Mapping[str, Result]) -> pd.DataFrame:
    """Return the loss by the number of tokens that the prediction saw, of all variants, with the name as first column.

    `tokens_seen` is the middle of a bin.
    """
    rows = [
        {"model": name, "tokens_seen": (row["position"] + row["to"]) / 2, "bits_per_char": row["bits_per_char"]}
        for name, result in results.items()
        for row in result.breakdown["by_position"]
    ]
    return pd.DataFrame(rows, columns=["model", "tokens_seen", "bits_per_char"])


def curves(results: Mapping[str, Result]) -> pd.DataFrame:
    """Return all histories below each other, with the variant's name as first column."""
    return pd.concat([result.history.assign(model=name) for name, result in results.items()])[
        ["model", "step", "characters", "train_bits_per_char", "validation_bits_per_char"]
    ]


def draw_curves(points: pd.DataFrame, path: Path, title: str) -> None:
    """Draw the validation (full) and training (dotted) loss of every model of `curves` over the characters read."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), dpi=120, layout="constrained")
    for index, (name, history) in enumerate(points.groupby("model", sort=False)):
        history = history[history["step"] > 0]
        color = f"C{index}"
        axes.plot(history["characters"], history["validation_bits_per_char"], color=color, label=str(name))
        axes.plot(history["characters"], history["train_bits_per_char"], color=color, linestyle=":", linewidth=1)
        best = history.nsmallest(1, "validation_bits_per_char")
        axes.plot(best["characters"], best["validation_bits_per_char"], "o", color=color, markersize=5)
    axes.set_xscale("log")
    axes.set_xlabel("characters read in training")
    axes.set_ylabel("bits per character")
    axes.set_title(f"{title}: validation (full), training (dotted), kept checkpoint (dot)", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
    pyplot.close(figure)


def gallery(results: Mapping[str, Result]) -> str:
    """Return every model's samples as Markdown, the models in the order given."""
    parts = ["# What the models write\n"]
    for name, result in results.items():
        parts.append(f"## {name}\n")
        parts.extend(sample.markdown() for sample in result.samples)
    return "\n".join(parts)


def excerpt(results: Mapping[str, Result]) -> str:
    """Return the beginning of every model's first sample, for the README."""
    return "\n".join(f"**{name}**, {result.samples[0].markdown(EXCERPT)}" for name, result in results.items())
