"""`gptmodel compare`: which model is better."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from gptmodel.errors import one_line_errors

if TYPE_CHECKING:
    from rich.table import Table

    from gptmodel.results.comparison import ModelScore

Split = Literal["test", "validation"]  # texts that no model was trained on


@one_line_errors()
def compare(
    models: Annotated[list[str], Argument(metavar="MODEL", help="Two models or more.")],
    split: Annotated[Split, Option(help="The text that they are compared on.")] = "test",
    as_json: Annotated[bool, Option("--json", help="One JSON object, unrounded, for programs.")] = False,
) -> None:
    """Say which model is better on the same text, by how many bits per character and how certainly: best first.

    Run it in the repository's root. A model is one of:

    gpt-char: a name under models/.

    baselines: the best of those that count, in data/baselines.

    path/to/folder: a folder with surprisal.safetensors.

    HEAD~1:gpt-char, my-experiment:baselines: of a Git revision or a DVC experiment, if DVC still has the file.

    run:RUN_ID: of an MLflow run (from MLFLOW_TRACKING_URI or mlflow.db).

    Intervals hold in 95 % for other text of this kind: blocks of the text are drawn again, the same for all models.
    Below a certainty of 97.5 % there is no real difference. They know nothing of training: another seed moves a model.
    """
    from rich.console import Console

    from gptmodel.evaluation import comparison
    from gptmodel.tracking import sources

    compared = comparison.compare(sources.read_all(models), split)
    if as_json:
        sys.stdout.write(compared.model_dump_json() + "\n")
        return
    sys.stdout.write(f"{split}: {compared.characters:,} characters, sha256 {compared.sha256[:12]}\n\n")
    Console().print(_table(compared.models))
    sys.stdout.write("\n" + "".join(f"{comparison.sentence(pair)}\n" for pair in compared.pairs))


def _table(models: list["ModelScore"]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    drawn = Table("model", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column("bits/char", justify="right", no_wrap=True)
    drawn.add_column("95 % interval", no_wrap=True)
    for model in models:
        drawn.add_row(Text(model.name), f"{model.bits_per_char:.3f}", f"{model.low:.3f} to {model.high:.3f}")
    return drawn
