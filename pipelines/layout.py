"""Where the stages read and write, from the repository's root; a test compares these paths with dvc.yaml's."""

import sys
from pathlib import Path

from gptmodel.errors import UserError

PARAMS = Path("params.yaml")
CATALOG = Path("data/catalog.yaml")
RAW = Path("data/raw")
CLEAN = Path("data/clean")
TOKENS = Path("data/tokens")
LADDER = Path("data/ladder")
MODELS = Path("models")
REPORTS = Path("reports")


def variant() -> str:
    """Return the one argument of a stage that works on one model: its name."""
    if len(sys.argv) != 2:
        raise UserError(
            f"python -m pipelines.{Path(sys.argv[0]).stem} takes one argument: a name under models: in {PARAMS}"
        )
    return sys.argv[1]
