"""The tables of docs/errors.md: bad input and the line that answers it, as tests/cli/test_bad_input.py proves."""

import html
import re

from tests.support.bad_calls import BUNDLES, OPTIONS
from tests.support.bad_input import Fault
from tests.support.bad_projects import FETCH, MODELS, STAGES

SECTIONS = {
    "options": OPTIONS,
    "bundles": BUNDLES,
    "models": MODELS,
    "texts": FETCH,
    "stages": STAGES,
}


def tables() -> dict[str, str]:
    """Return a table for each kind of bad input."""
    return {name: _table(faults) for name, faults in SECTIONS.items()}


def _table(faults: list[Fault]) -> str:
    rows = [f"| {_code(fault.command)} | {fault.wrong} | {_code(fault.line)} |" for fault in faults]
    return "\n".join(["| command | what is wrong | error: |", "|---|---|---|", *rows])


def _code(text: str) -> str:
    """Return a text as code in a cell; the name of 300 letters is shortened."""
    short = re.sub("x{20,}", "xxx...", text)
    return f"<code>{html.escape(short, quote=False).replace('`', '&#96;').replace('|', '&#124;')}</code>"
