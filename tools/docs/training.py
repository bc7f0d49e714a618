"""The tables of docs/training.md, from benchmarks/results: recipes, the race, the ablation."""

import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
RACE = "train-race.json"

Record = dict[str, Any]


def tables() -> str:
    """Return every table that has results."""
    records = [_read(path) for path in sorted(RESULTS.glob("train-*.json")) if path.name != RACE]
    parts = [_recipes(records)] if records else []
    if (RESULTS / RACE).exists():
        parts.append(_race(_read(RESULTS / RACE)))
    parts += [_ablation(_read(path)) for path in sorted(RESULTS.glob("ablation-*.json"))]
    return "\n\n".join(parts) or "Nothing is recorded yet."


def _read(path: Path) -> Record:
    record: Record = json.loads(path.read_text(encoding="utf-8"))
    return {"name": path.stem.removeprefix("train-"), **record}


def _recipes(records: list[Record]) -> str:
    """Return one row per recipe and model: means over the seeds."""
    lines = [
        "| recipe | seeds | parameters | validation nats/token | validation bits/char | test bits/char "
        "| Kneser-Ney bits/char, order 6; best | minutes in all | tokens/s | of the matrix rate | on |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for record in sorted(records, key=lambda each: (each["parameters"]["corpus"], _minutes(each))):
        for model, results in record["models"].items():
            name = record["name"] if len(record["models"]) == 1 else f"{record['name']}: {model}"
            lines.append(f"| `{name}` | {' | '.join(_cells(record, results))} |")
    return "\n".join(lines)


def _minutes(record: Record) -> float:
    return sum(float(each["summary"]["wall_seconds"]["mean"]) for each in record["models"].values()) / 60


def _cells(record: Record, results: Record) -> list[str]:
    first, means = results["seeds"][0], {name: each["mean"] for name, each in results["summary"].items()}
    sd = results["summary"]["final_nats_per_token"]["sd"]
    test = means.get("test_bits_per_char")
    return [
        str(len(results["seeds"])),
        f"{first['saved']['parameters']:,}",
        f"**{means['final_nats_per_token']:.4f}**" + (f" ± {sd:.4f}" if sd is not None else ""),
        f"{means['final_bits_per_char']:.3f}",
        f"{test:.3f}" if test is not None else "",
        _baseline(record["baselines"]["validation" if test is None else "test"]),
        f"{means['wall_seconds'] / 60:.1f}",
        f"{means['tokens_per_second']:,.0f}",
        f"{means['share_of_matrix_rate']:.0%}, {first['training']['precision']}",
        _machine(record["hardware"]),
    ]


def _baseline(baselines: list[Record]) -> str:
    best = min(baselines, key=lambda score: float(score["bits_per_char"]))
    [sixth] = [score for score in baselines if score["order"] == 6]
    return f"{sixth['bits_per_char']:.3f}; {best['bits_per_char']:.3f} ({best['order']})"


def _machine(hardware: Record) -> str:
    return hardware["gpu"] or f"{hardware['torch_threads']} CPU threads"


def _race(record: Record) -> str:
    """Return how long each recipe of the race took to the same loss: means over the seeds."""
    races = [each for each in record["races"] if each["times_sooner"]]
    if not races:
        return "The race's target was not reached."
    target = statistics.mean(each["target_nats_per_token"] for each in races)
    lines = [
        f"| to {target:.2f} nats per character | seconds | steps | tokens | times sooner |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in races[0]["reached"]:
        points = [each["reached"][name] for each in races]
        seconds, steps, tokens = (statistics.mean(p[key] for p in points) for key in ("seconds", "step", "tokens"))
        sooner = [each["times_sooner"][name] for each in races if name in each["times_sooner"]]
        ratio = f"**{statistics.mean(sooner):.1f}**" if sooner else ""
        lines.append(f"| `{name}` | {seconds:.0f} | {steps:,.0f} | {tokens:,.0f} | {ratio} |")
    return "\n".join(lines)


def _ablation(record: Record) -> str:
    """Return the full recipe, then the difference that each change makes, the largest first."""
    full, *others = record["rows"]
    lines = [
        f"| {record['steps']:,} steps, {full['seeds']} seeds | nats/token | ± | difference | tokens/s |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in [full, *sorted(others, key=lambda each: float(-each["difference"]))]:
        sd = f"{row['sd']:.4f}" if row["sd"] is not None else ""
        difference = f"{row['difference']:+.4f}" if row is not full else ""
        cells = [row["row"], f"{row['nats_per_token']:.4f}", sd, difference, f"{row['tokens_per_second']:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
