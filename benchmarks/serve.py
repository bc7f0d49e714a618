"""The server under load: many streams at once against one after the other, and what a limit does to a crowd.

    python benchmarks/serve.py [BUNDLE] [--clients 200] [--tokens 200] [--rounds 3]

The clients are one asyncio process on the same machine, so that they share its cores with the server. Measured, warm,
medians over the rounds: tokens per second of all streams together, time to the first token (50th and 95th percentile)
and the server's peak memory, for a place for every client (`all at once`), the default places (`in turns`), a queue too
short (`over the limit`: refused with 429) and one client (`one after the other`). Then all texts of the crowd are
compared with those of the same requests alone; and all clients leave without a word, and it is measured how long their
places stay taken. Last, one client that keeps its connection (see keepalive.py). The result goes to
benchmarks/results/serve.json.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keepalive
from environment import RESULTS, ROOT, environment, processor

from gptmodel import files

ALONE = 20  # requests of one client
PROMPTS = ("Il était ", "Condamné à mort ! ", "Je me souviens qu'", "Le lendemain matin, ", "— Monsieur, ")


@dataclass
class Answer:
    """What one client saw."""

    status: int
    text: str = ""
    first_seconds: float = 0.0
    done: bool = False


def request(number: int, tokens: int) -> dict[str, Any]:
    """Return request `number`: prompts and seeds differ."""
    return {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number, "max_tokens": tokens, "stream": True}


async def ask(port: int, body: dict[str, Any], leaves: bool = False) -> Answer:
    """Send a request and read the stream to its end; or leave in the middle of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    content, started = json.dumps(body).encode(), time.perf_counter()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    answer = Answer(int((await reader.readline()).split()[1]))
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        answer.first_seconds = answer.first_seconds or time.perf_counter() - started
        if leaves:
            break
        if line == b"data: [DONE]\n":
            answer.done = True
        else:
            answer.text += json.loads(line.removeprefix(b"data: "))["choices"][0]["text"]
    writer.close()
    return answer


async def health(port: int) -> dict[str, Any]:
    """Return what /health says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    state: dict[str, Any] = json.loads((await reader.read()).split(b"\r\n\r\n", 1)[1])
    writer.close()
    return state


class Server:
    """A server in a process of its own."""

    def __init__(self, bundle: Path, concurrent: int, queue: int, source: Path = ROOT) -> None:
        """Start the server of the code in `source`, a checkout."""
        options = ["--port", "0", "--max-concurrent", str(concurrent), "--max-queue", str(queue)]
        options += ["--max-tokens", "100000"]
        command = [sys.executable, "-m", "gptmodel", "serve", str(bundle), *options]
        code = {**os.environ, "PYTHONPATH": str(source / "src")}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=code)
        assert self._process.stderr
        self.summary = self._process.stderr.readline().strip()
        self.port = int(self._process.stderr.readline().split()[2].rpartition(":")[2])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(60):
            raise SystemExit(f"the server ended with {self._process.returncode}")

    @property
    def peak_mb(self) -> float:
        """The most memory that it has had (Linux)."""
        return self._memory_mb("VmHWM")

    @property
    def resident_mb(self) -> float:
        """The memory that it has now (Linux)."""
        return self._memory_mb("VmRSS")

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open (Linux)."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def _memory_mb(self, name: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(status.split(f"{name}:")[1].split()[0]) / 1000


async def crowd(port: int, clients: int, tokens: int) -> list[Answer]:
    """Let all clients ask at once."""
    return await asyncio.gather(*(ask(port, request(number, tokens)) for number in range(clients)))


async def one_after_the_other(port: int, clients: int, tokens: int) -> list[Answer]:
    """Let one client ask, again and again."""
    return [await ask(port, request(number, tokens)) for number in range(clients)]


def measure(server: Server, way: Any, clients: int, tokens: int, rounds: int) -> tuple[dict[str, Any], list[Answer]]:
    """Return the figures of some rounds after a warm-up, and the answers of the last."""
    asyncio.run(way(server.port, clients, 10))
    speeds, first_ms = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        answers: list[Answer] = asyncio.run(way(server.port, clients, tokens))
        seconds = time.perf_counter() - started
        served = [answer for answer in answers if answer.status == 200]
        speeds.append(len(served) * tokens / seconds)
        first_ms.append([1000 * answer.first_seconds for answer in served])
    quantiles = [statistics.quantiles(values, n=20) for values in first_ms]
    figures = {
        "requests": clients,
        "statuses": dict(Counter(answer.status for answer in answers)),
        "complete": sum(answer.done and len(answer.text) > 0 for answer in answers),
        "tokens_per_second": round(statistics.median(speeds)),
        "first_token_ms_p50": round(statistics.median(values[9] for values in quantiles), 1),
        "first_token_ms_p95": round(statistics.median(values[18] for values in quantiles), 1),
        "server_peak_mb": round(server.peak_mb, 1),
    }
    return figures, answers


async def leave_all(port: int, clients: int) -> dict[str, Any]:
    """Let all clients leave at their first token; return how long their places stay taken."""
    started = [asyncio.create_task(ask(port, request(number, 100_000), leaves=True)) for number in range(clients)]
    await asyncio.gather(*started)
    last, most = time.perf_counter(), 0
    while (state := await health(port))["running"] + state["waiting"]:
        most = max(most, state["running"])
        await asyncio.sleep(0.005)
        if time.perf_counter() - last > 30:
            raise SystemExit(f"places are still taken: {state}")
    return {"clients": clients, "all_places_free_after_ms": round(1000 * (time.perf_counter() - last), 1)}


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models" / "gpt-char" / "bundle")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    runs: dict[str, Any] = {}
    load_before = round(os.getloadavg()[0], 1)  # processes that others run on these cores
    with Server(args.bundle, args.clients, 0) as server:
        runs["all at once"], together = measure(server, crowd, args.clients, args.tokens, args.rounds)
        gone = asyncio.run(leave_all(server.port, args.clients))
        runs["one after the other"], _ = measure(server, one_after_the_other, ALONE, args.tokens, args.rounds)
        rest = asyncio.run(one_after_the_other(server.port, args.clients, args.tokens))
        kept = keepalive.measure(server.port)
    with Server(args.bundle, 32, 256) as server:
        runs["in turns"], turns = measure(server, crowd, args.clients, args.tokens, args.rounds)
    with Server(args.bundle, 32, 32) as server:
        runs["over the limit"], _ = measure(server, crowd, args.clients, args.tokens, args.rounds)
    texts = [answer.text for answer in rest]
    result = {
        **environment(
            "onnxruntime", "onnxruntime-gpu", "numpy", "fastapi", "uvicorn", **processor(), load_before=load_before
        ),
        "bundle": server.summary.split(":", 1)[1].split(",")[0].strip(),
        "tokens_per_request": args.tokens,
        "rounds": args.rounds,
        "runs": runs,
        "texts_equal_alone_and_in_the_crowd": sum(a.text == b for a, b in zip(together, texts, strict=True)),
        "texts_equal_alone_and_in_turns": sum(a.text == b for a, b in zip(turns, texts, strict=True)),
        "clients_that_leave": gone,
        "one_connection_kept": keepalive.summary(kept),
    }
    print(json.dumps(result, indent=2))
    files.write_json(RESULTS / "serve.json", result)


if __name__ == "__main__":
    main()
