"""The table of threads in docs/training.md, from benchmarks/results/threads.json."""

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "threads.json"


def table() -> str:
    """Return one row per setting and one column per task: seconds alone, and beside a busy core."""
    if not RECORD.exists():
        return "Nothing is recorded yet."
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    rows = record["rows"]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    settings = dict.fromkeys((row["threads"], row["waiting"]) for row in rows)
    seconds = {(row["task"], row["threads"], row["waiting"], row["busy_cores"]): row["seconds"] for row in rows}

    def cell(task: str, setting: tuple[int, str]) -> str:
        both = [seconds.get((task, *setting, busy)) for busy in (0, 1)]
        return " / ".join(f"{found:.1f}" for found in both if found is not None)

    lines = [
        f"Seconds alone / beside one busy core, on {record['hardware']['cores']} cores"
        f" ({record['hardware']['cpu_model']}), medians of {record['rounds']}:",
        "",
        f"| threads | wait | {' | '.join(tasks)} |",
        f"|---:|---|{'---:|' * len(tasks)}",
    ]
    for setting in settings:
        lines.append(f"| {setting[0]} | {setting[1]} | {' | '.join(cell(task, setting) for task in tasks)} |")
    return "\n".join(lines)
