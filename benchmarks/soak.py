"""A server under a mixed load for long: memory and descriptors stay flat, nobody waits for ever, nothing fails.

    python benchmarks/soak.py [BUNDLE] [--minutes 60] [--clients 24]

Each client does one thing after another, drawn with a seed: streams and whole answers of different lengths, streams
that are left without a word, requests that are wrong, prompts of 10,000 characters, requests that are never finished.
Every ten seconds memory and descriptors are read. It ends with exit code 1 if an answer was wrong or missing, if the
server needs over a tenth more memory at the end than after the first fifth, or if descriptors or places stay taken.
The result goes to benchmarks/results/soak.json. Linux only.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from environment import RESULTS, ROOT, environment, processor
from serve import Server, ask, health, request

from gptmodel import files

SAMPLE_SECONDS = 10
KNOWN = "Il était une fois un vieil homme. " * 300  # 10,000 characters
STRANGE = "".join(map(chr, range(0x4E00, 0x4E00 + 10_000)))
WRONG = (b"", b"\xff\xfe", b"[" * 9999, b'{"prompt": 3}', b'{"prompt": "a", "n": 99}', b'{"prompt": "a", "top_p": 7}')


class Load:
    """The clients of a server, and what they saw."""

    def __init__(self, port: int, end: float) -> None:
        self._port = port
        self._end = end
        self._numbers = itertools.count()
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.first_ms: list[float] = []

    async def client(self, seed: int) -> None:
        """Ask until the time is over."""
        draw = random.Random(seed)
        ways: dict[Callable[[random.Random], Awaitable[str]], int] = {
            self._stream: 40,
            self._whole: 20,
            self._leaves: 15,
            self._wrong: 10,
            self._large: 10,
            self._unfinished: 5,
        }
        while time.monotonic() < self._end:
            way = draw.choices(list(ways), list(ways.values()))[0]
            name = way.__name__.strip("_")
            try:
                problem = await asyncio.wait_for(way(draw), 120)
            except (OSError, TimeoutError, ValueError, IndexError) as error:
                problem = repr(error)
            self.done[name] += 1
            if problem:
                self.failed[f"{name}: {problem[:100]}"] += 1

    async def _stream(self, draw: random.Random) -> str:
        answer = await ask(self._port, request(next(self._numbers), draw.randint(1, 400)))
        self.first_ms.append(1000 * answer.first_seconds)
        return "" if answer.status == 200 and answer.done else f"status {answer.status}, whole: {answer.done}"

    async def _leaves(self, _: random.Random) -> str:
        answer = await ask(self._port, request(next(self._numbers), 100_000), leaves=True)
        return "" if answer.status == 200 else f"status {answer.status}"

    async def _whole(self, draw: random.Random) -> str:
        body = {**request(next(self._numbers), draw.randint(1, 400)), "stream": False, "n": draw.randint(1, 4)}
        status, answer = await self._post(json.dumps({**body, "logprobs": draw.choice((None, 5))}).encode())
        return "" if status == 200 and len(answer["choices"]) == body["n"] else f"status {status}"

    async def _large(self, draw: random.Random) -> str:
        body = {"prompt": draw.choice((KNOWN, STRANGE))[:10_000], "n": draw.randint(1, 8), "max_tokens": 20}
        status, _ = await self._post(json.dumps(body).encode())
        return "" if status == 200 else f"status {status}"

    async def _wrong(self, draw: random.Random) -> str:
        status, answer = await self._post(draw.choice(WRONG))
        return "" if status == 400 and answer["error"]["message"] else f"status {status}"

    async def _unfinished(self, draw: random.Random) -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(draw.choice((b"POST /v1/comp", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n{", b"")))
        await asyncio.sleep(draw.random())
        writer.close()
        return ""

    async def _post(self, body: bytes) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head, _, answer = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return int(head.split()[1]), json.loads(answer)


async def soak(server: Server, clients: int, seconds: float) -> tuple[Load, list[dict[str, float]]]:
    """Put the load on a server; return what the clients saw and the samples, memory and descriptors."""
    started = time.monotonic()
    load = Load(server.port, started + seconds)
    crowd = asyncio.gather(*(load.client(seed) for seed in range(clients)))
    samples = []
    while not crowd.done():
        await asyncio.wait([crowd], timeout=min(SAMPLE_SECONDS, seconds / 20))
        samples.append(
            {
                "second": round(time.monotonic() - started, 1),
                "memory_mb": round(server.resident_mb, 1),
                "descriptors": server.descriptors,
            }
        )
    await crowd
    return load, samples


def verdict(load: Load, samples: list[dict[str, float]], state: dict[str, Any], left: int) -> list[str]:
    """Return what is wrong, a line each; `left` descriptors stay open beyond those of the start."""
    memory = [sample["memory_mb"] for sample in samples]
    fifth = max(1, len(memory) // 5)
    early, late = statistics.median(memory[fifth : 2 * fifth] or memory), statistics.median(memory[-fifth:])
    wrong = [f"{count} times {problem}" for problem, count in load.failed.items()]
    if late > 1.1 * early:
        wrong.append(f"memory grew from {early:.1f} to {late:.1f} MB")
    if left > 0:
        wrong.append(f"{left} descriptors stay open")
    if state["running"] or state["waiting"]:
        wrong.append(f"places stay taken: {state}")
    return wrong


def main() -> None:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=ROOT / "models" / "gpt-char" / "bundle")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=24)
    args = parser.parse_args()
    with Server(args.bundle, 32, 256) as server:
        asyncio.run(health(server.port))
        time.sleep(1)
        before = server.descriptors
        load, samples = asyncio.run(soak(server, args.clients, 60 * args.minutes))
        time.sleep(2)  # the last clients have left
        state = asyncio.run(health(server.port))
        time.sleep(1)
        wrong = verdict(load, samples, state, server.descriptors - before)
        peak = server.peak_mb
    quantiles = statistics.quantiles(load.first_ms, n=100)
    result = {
        **environment("onnxruntime", "onnxruntime-gpu", "fastapi", "uvicorn", **processor()),
        "minutes": args.minutes,
        "clients": args.clients,
        "requests": sum(load.done.values()),
        "by_kind": dict(sorted(load.done.items())),
        "first_token_ms": {"p50": round(quantiles[49], 1), "p99": round(quantiles[98], 1)},
        "memory_mb": {
            "after_a_fifth": samples[len(samples) // 5]["memory_mb"],
            "end": samples[-1]["memory_mb"],
            "peak": round(peak, 1),
        },
        "descriptors": {"before": before, "most": max(sample["descriptors"] for sample in samples)},
        "wrong": wrong,
        "samples": samples[:: max(1, len(samples) // 60)],
    }
    print(json.dumps({**result, "samples": len(samples)}, indent=2))
    files.write_json(RESULTS / "soak.json", result)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
