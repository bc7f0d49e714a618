"""What every notebook begins with: where the repository is, the values of the default recipe, and the text.

A notebook runs in this folder, so that `from prepare import ...` works there.
"""

import os
from pathlib import Path

from gptmodel import layout, params
from gptmodel.data.corpus import read_splits
from gptmodel.results.corpus import SplitName
from gptmodel.text.splits import split

FAST = "GPTMODEL_NOTEBOOK_FAST" in os.environ  # the tests set it: less text, fewer steps
ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / layout.MODELS
TOKENS = ROOT / layout.TOKENS


def default_run() -> tuple[params.Params, dict[SplitName, str]]:
    """Return the default recipe and its text: that of `make repro` where it has been made, else a few pages."""
    settings = params.load(ROOT / "recipes" / "hugo.yaml")
    if (ROOT / layout.TEXT).exists() and not FAST:
        return settings, read_splits(ROOT / layout.TEXT)
    pages = (ROOT / "tests" / "fixtures" / "roman.txt").read_text(encoding="utf-8")
    return settings, split(pages, settings.split).named()
