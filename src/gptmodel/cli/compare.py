"""`gptmodel compare`: which model is better."""

import json
import sys
from typing import Annotated, Literal

import typer

from gptmodel.errors import one_line_errors

Split = Literal["test", "validation"]  # texts that no model was trained on


@one_line_errors()
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Two models or more.")],
    split: Annotated[Split, typer.Option(help="The text that they are compared on.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, unrounded, for programs.")] = False,
) -> None:
    """Say which model is better on the same text, by how many bits per character and how certainly: best first.

    Run it in the repository's root. A model is one of:

    gpt-char: a name under models/.

    ladder: the best of the counts, in data/ladder.

    path/to/folder: a folder with surprisal.npz.

    HEAD~1:gpt-char, my-experiment:ladder: of a Git revision or a DVC experiment, if DVC still has the file.

    run:RUN_ID: of an MLflow run (from MLFLOW_TRACKING_URI or mlflow.db).

    Intervals hold in 95 % for other text of this kind: blocks of the text are drawn again, the same for all models.
    Below a certainty of 97.5 % there is no real difference. They know nothing of training: another seed moves a model.
    """
    from rich.console import Console

    from gptmodel.evaluation import comparison

    costs = comparison.read_all(models)
    rows, pairs = comparison.models(costs, split), comparison.pairs(costs, split)
    text = comparison.text_of(costs, split)
    if as_json:
        sys.stdout.write(json.dumps({**text, "models": rows, "pairs": pairs}, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(f"{text['split']}: {text['characters']:,} characters, sha256 {text['sha256'][:12]}\n\n")
    Console().print(comparison.table(rows))
    sys.stdout.write("\n" + "".join(f"{comparison.sentence(pair)}\n" for pair in pairs))
