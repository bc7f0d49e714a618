"""The table of docs/speed.md on decoding, from benchmarks/results/decode-*.json."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
RATES = {"batch 1": "batch_1", "after 512": "batch_1_far", "batch 8": "batch_8", "batch 64": "batch_64"}
COLUMNS = ("system", "threads", *RATES, "first token, ms", "memory, MB", "of bandwidth", "greedy text")
HEAD = f"| {' | '.join(COLUMNS)} |\n|---|{'---:|' * (len(COLUMNS) - 2)}---|"


def tables() -> str:
    """Return one table per size and device, each system with the number of threads that is its best at batch 1."""
    parts = []
    for path in sorted(RESULTS.glob("decode-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        title = f"**{record['parameters']:,} parameters**, {record.get('gpu') or 'CPU'}, tokens per second"
        parts.append("\n".join([f"{title}:\n", HEAD, *map(_line, _best(record["rows"]))]))
        if record["missing"]:
            reasons = {each["name"]: each["reason"] for each in record["missing"]}
            parts.append("Not there: " + "; ".join(f"{name} ({reason})" for name, reason in reasons.items()) + ".")
    return "\n\n".join(parts) or "Nothing is recorded yet."


def _best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per system, fastest first."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: -row["tokens_per_second"]["batch_1"]):
        best.setdefault(row["name"], row)
    return list(best.values())


def _line(row: dict[str, Any]) -> str:
    rates = row["tokens_per_second"]
    cells = [
        f"**{row['name']}**" if row["peer"] == "ours" else row["name"],
        str(row["threads"]),
        *(f"{rates[batch]:,.0f}" if batch in rates else "" for batch in RATES.values()),
        f"{row['first_token_ms']:.0f}",
        f"{row['peak_memory_mb']:,.0f}",
        " / ".join(f"{row['share_of_bandwidth'][kind]:.0%}" for kind in ("memory", "model_size")),
        {"equal": "as torch's"}.get(row.get("greedy_tokens_and_torch", ""), row.get("greedy_tokens_and_torch", "")),
    ]
    return f"| {' | '.join(cells)} |"
