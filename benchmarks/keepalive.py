"""One client that keeps its connection: how long it waits, and what a heavy request does to it. Before and after.

    python benchmarks/keepalive.py [BUNDLE] [--before COMMIT] [--rounds 3] [--requests 100]

A new connection for each request hides what a kept one pays (40 ms where small packets wait for an acknowledgement), so
this measures a kept one, in milliseconds, after a warm-up: /health, 1 token, 50 tokens, the first event of a stream;
and the longest wait for /health while another client asks for something heavy: 32 texts after 10,000 characters that
the model never saw, or 32 texts of 1,000 tokens with log-probabilities, whole or in a stream. So long the event loop
was held. With `--before`, the code of that commit serves the same
bundle and both are measured in turns, in one run. The result goes to benchmarks/results/keepalive.json.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from environment import RESULTS, ROOT, environment, for_older_code, processor

from gptmodel import files

LONG_TEXTS: dict[str, object] = {"n": 32, "max_tokens": 1000, "logprobs": 5}
HEAVY: dict[str, dict[str, object]] = {
    "health_beside_a_heavy_prompt": {
        "prompt": "".join(map(chr, range(0x4E00, 0x4E00 + 10_000))),
        "n": 32,
        "max_tokens": 1,
    },
    "health_beside_a_heavy_answer": LONG_TEXTS,
    "health_beside_a_heavy_stream": {**LONG_TEXTS, "stream": True},
}
Waits = dict[str, list[float]]


class Client:
    """A client that keeps its connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def health(self) -> None:
        """Ask for /health."""
        self._connection.request("GET", "/health")
        self._answer().read()

    def text(self, **request: object) -> None:
        """Ask for a text."""
        self._connection.request("POST", "/v1/completions", json.dumps({"prompt": "Il ", "seed": 1, **request}))
        self._answer().read()

    def first_event(self) -> float:
        """Ask for a stream; return when its first event came."""
        body = json.dumps({"prompt": "Il ", "seed": 1, "max_tokens": 20, "stream": True})
        self._connection.request("POST", "/v1/completions", body)
        answer = self._answer()
        answer.readline()
        came = time.perf_counter()
        answer.read()
        return came

    def _answer(self) -> http.client.HTTPResponse:
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"the server answers {answer.status}: {answer.read()!r}")
        return answer


def measure(port: int, requests: int = 100) -> Waits:
    """Return all waits of one round, in milliseconds."""
    client = Client(port)
    ways: dict[str, Callable[[], float | None]] = {
        "health": client.health,
        "1_token": lambda: client.text(max_tokens=1),
        "50_tokens": lambda: client.text(max_tokens=50),
        "first_event": client.first_event,
    }
    waits: Waits = {}
    for name, way in ways.items():
        for _ in range(5):
            way()
        waits[name] = [_wait_ms(way) for _ in range(requests)]
    for name, request in HEAVY.items():
        heavy = threading.Thread(target=Client(port).text, kwargs=request)
        heavy.start()
        beside = []
        while heavy.is_alive():
            beside.append(_wait_ms(client.health))
        waits[name] = [max(beside)]
    return waits


def _wait_ms(way: Callable[[], float | None]) -> float:
    started = time.perf_counter()
    came = way()
    return 1000 * ((came or time.perf_counter()) - started)


def summary(waits: Waits) -> dict[str, dict[str, float]]:
    """Return the median and the 99th percentile of each wait; beside something heavy, the longest."""
    figures = {}
    for name, values in waits.items():
        if len(values) < 10:
            figures[f"{name}_ms"] = {"longest": round(max(values), 1)}
        else:
            quantiles = statistics.quantiles(values, n=100)
            figures[f"{name}_ms"] = {"p50": round(quantiles[49], 2), "p99": round(quantiles[98], 2)}
    return figures


def main() -> None:
    """Measure, print and record."""
    from serve import Server  # which measures this too

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models" / "gpt-char" / "bundle")
    parser.add_argument("--before", help="a commit to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100)
    args = parser.parse_args()
    conditions = environment("onnxruntime", "onnxruntime-gpu", "fastapi", "uvicorn", **processor())
    with ExitStack() as stack:
        sources = {conditions["commit"]: ROOT}
        bundle = args.bundle.resolve()
        if args.before:
            bundle = for_older_code(bundle, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "before"
            worktree = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*worktree, "add", "--quiet", "--detach", str(folder), args.before], check=True)
            stack.callback(lambda: subprocess.run([*worktree, "remove", "--force", str(folder)], check=True))
            sources = {args.before: folder, **sources}
        servers = {commit: stack.enter_context(Server(bundle, 32, 256, source)) for commit, source in sources.items()}
        waits: dict[str, Waits] = {commit: {} for commit in servers}
        for _ in range(args.rounds):
            for commit, server in servers.items():
                for name, values in measure(server.port, args.requests).items():
                    waits[commit].setdefault(name, []).extend(values)
    result = {
        **conditions,
        "rounds": args.rounds,
        "requests": args.requests,
        "by_commit": {commit: summary(found) for commit, found in waits.items()},
    }
    print(json.dumps(result, indent=2))
    files.write_json(RESULTS / "keepalive.json", result)


if __name__ == "__main__":
    main()
