"""The figures of the report that are images; the page draws its own."""

from io import BytesIO

import pandas as pd
from matplotlib.figure import Figure


def curves(points: pd.DataFrame, title: str) -> Figure:
    """Draw the loss of every model of `tables.curves` over the characters read: validation full, training dotted."""
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
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
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
