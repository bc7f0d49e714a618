"""What a stage is told on its command line."""

import sys
from pathlib import Path
from typing import get_args

from gptmodel import layout
from gptmodel.errors import UserError
from gptmodel.params import Level


def none() -> None:
    """Refuse arguments: the stage takes what params.yaml says."""
    if sys.argv[1:]:
        raise UserError(f"{_stage()} takes no argument, not {' '.join(sys.argv[1:])!r}: change {layout.PARAMS} instead")


def model() -> str:
    """Return the one argument of a stage that works on one model: its name."""
    if len(sys.argv) != 2:
        raise UserError(f"{_stage()} takes one argument: a name under models: in {layout.PARAMS}")
    return sys.argv[1]


def level() -> Level:
    """Return the one argument of a stage that works on one level: char, word or bpe."""
    levels: tuple[Level, ...] = get_args(Level)
    for name in levels:
        if sys.argv[1:] == [name]:
            return name
    raise UserError(f"unknown level {' '.join(sys.argv[1:])!r}: give one of {', '.join(levels)}")


def _stage() -> str:
    return f"python -m pipelines.{Path(sys.argv[0]).stem}"
