"""The table of docs/reliability.md, from the campaign of faults (tests/support/faults.py)."""

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "faults.json"


def table() -> str:
    """Return a row for each stage: the faults tried, those survived, and how often an undisturbed run flushes."""
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    faults = sorted({fault for row in record["tried"].values() for fault in row})
    lines = [
        f"| stage | {' | '.join(faults)} | tried | of all | survived | calls | of them flushes |",
        f"|---|{'---:|' * (len(faults) + 5)}",
    ]
    for stage, tried in record["tried"].items():
        counts = [tried.get(fault, 0) for fault in faults]
        survived = sum(record["survived"][stage].values())
        calls = [record[kind][f"{stage} again"] for kind in ("calls", "flushes")]
        lines.append(_row(stage, *counts, sum(counts), f"{record['share'][stage]:.0%}", survived, *calls))
    every = [sum(tried.get(fault, 0) for tried in record["tried"].values()) for fault in faults]
    survived = sum(count for row in record["survived"].values() for count in row.values())
    lines.append(_row("**all**", *every, sum(every), "", survived, "", ""))
    return f"**{sum(every):,} faults tried, {survived:,} survived.**\n\n" + "\n".join(lines)


def _row(*cells: int | str) -> str:
    return f"| {' | '.join(cell if isinstance(cell, str) else f'{cell:,}' for cell in cells)} |"
