"""The figures of the server in docs/running.md, from benchmarks/results/{keepalive,serve,soak}.json."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
WAITS = {
    "health_ms": "`/health`, median",
    "1_token_ms": "1 token, median",
    "50_tokens_ms": "50 tokens, median",
    "first_event_ms": "first event of a stream, median",
    "health_beside_a_heavy_prompt_ms": "`/health` beside 10,000 unknown characters x 32, longest",
    "health_beside_a_heavy_answer_ms": "`/health` beside 32 x 1,000 tokens with log-probabilities, longest",
    "health_beside_a_heavy_stream_ms": "the same in a stream, longest",
}


def tables() -> str:
    """Return what one client waits for, commit by commit, and what a crowd and a long run did to a server."""
    kept, crowd, soak = (_read(name) for name in ("keepalive", "serve", "soak"))
    waits = kept["by_commit"]
    in_turns, load = crowd["runs"]["in turns"], soak["by_kind"]
    lines = [
        f"One client that keeps its connection, milliseconds ({_machine(kept)}):",
        "",
        f"| | {' | '.join(f'`{commit}`' for commit in waits)} |",
        f"|---|{'---:|' * len(waits)}",
    ]
    for key, name in WAITS.items():
        figures = [found[key].get("p50", found[key].get("longest")) for found in waits.values()]
        lines.append(f"| {name} | {' | '.join(f'{figure:,.1f}' for figure in figures)} |")
    lines += [
        "",
        f"{in_turns['requests']} streams at once: {in_turns['tokens_per_second']:,} tokens per second together.",
        f"{soak['minutes']:.0f} minutes of mixed load by {soak['clients']} clients: {soak['requests']:,} requests "
        f"({load['wrong']:,} wrong ones, {load['unfinished']:,} never finished, {load['leaves']:,} left), "
        f"{len(soak['wrong'])} bad answers; first token {soak['first_token_ms']['p50']:.0f} ms in the median, "
        f"{soak['first_token_ms']['p99']:.0f} ms at the 99th percentile; memory "
        f"{soak['memory_mb']['after_a_fifth']:.0f} MB after a fifth of the time and {soak['memory_mb']['end']:.0f} MB "
        f"at the end; {soak['descriptors']['most']} descriptors at most.",
    ]
    return "\n".join(lines)


def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _machine(record: dict[str, Any]) -> str:
    return f"{record['hardware']['cores']} cores, {record['hardware']['cpu_model']}"
