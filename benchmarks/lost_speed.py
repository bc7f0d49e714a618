"""Two speeds that were lost by accident, before and after: prompts of mixed length, and many distinct characters.

    git worktree add --detach ../before 880de98
    python benchmarks/lost_speed.py ../before [--rounds 2]

Each side runs its own library, in a process of its own, round after round; medians of the seconds count, without
imports. It needs the outputs of `make repro`; about three minutes, most of them the side before. The result goes to
benchmarks/results/lost-speed.json.

`generate`: 320 passages of 5 to 400 characters, and the same cut to 40, continued by 40 tokens each. `encode word`: the
word tokenizer fitted to random text of so many distinct characters. `equal` counts the texts (or the tokenizer) that
are the same on both sides; in int8 a window that is read alone is rounded unlike one among others, so a few differ.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from environment import RESULTS, ROOT, environment, for_older_code, processor

from gptmodel import files, layout

PROMPTS, LONGEST, CUT, TOKENS = 320, 400, 40, 40
TEXTS = {2_000: 1_000_000, 8_000: 3_000_000}  # distinct characters: characters
FIRST = 0x4E00  # Chinese letters


def texts(bundle: Path, graph: str, passages: str) -> Iterator[dict[str, Any]]:
    """Yield what prompts of mixed length, and short ones, took in one graph."""
    import gptmodel
    from gptmodel.decoding.sampling import Sampling
    from gptmodel.decoding.sequence import Settings

    loaded = gptmodel.load(bundle, "cpu", 1, graph)
    draw = random.Random(1)
    places = [(draw.randrange(len(passages) - LONGEST), draw.randint(5, LONGEST)) for _ in range(PROMPTS)]
    mixed = [passages[first : first + length] for first, length in places]
    settings = Settings(TOKENS, Sampling(0.8, 0, 0.95), 1)

    def write(prompts: list[str]) -> list[str]:
        return [text.text for text in loaded.complete(prompts, settings)]

    yield timed(f"generate, mixed prompts, {graph}", partial(write, mixed))
    yield timed(f"generate, short prompts, {graph}", partial(write, [prompt[:CUT] for prompt in mixed]))


def tokenizers() -> Iterator[dict[str, Any]]:
    """Yield what fitting the word tokenizer took."""
    from gptmodel.data.fitting import fit_word

    for distinct, length in TEXTS.items():
        text = "".join(random.Random(1).choices([chr(FIRST + number) for number in range(distinct)], k=length))

        def fitted(text: str = text, distinct: int = distinct) -> list[str]:
            return [fit_word(text, 3 * distinct, 2).content()]

        yield timed(f"encode word, {distinct:,} of {length:,} characters", fitted)


def timed(task: str, work: Callable[[], list[str]]) -> dict[str, Any]:
    """Return the seconds that a task takes, and the digests of what it gives."""
    started = time.perf_counter()
    given = work()
    seconds = time.perf_counter() - started
    return {"task": task, "seconds": seconds, "given": [hashlib.sha256(text.encode()).hexdigest() for text in given]}


def run(side: Path, bundle: Path) -> list[dict[str, Any]]:
    """Return what each task took with the library of a checkout."""
    command = [sys.executable, __file__, str(side), "--child", str(bundle)]
    variables = {**os.environ, "PYTHONPATH": str(side / "src")}
    done = subprocess.run(
        command, cwd=side, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def main() -> None:
    """Measure both sides, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="gpt-char")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        passages = (ROOT / layout.TEXT / "train.txt").read_text(encoding="utf-8").replace("\n", " ")
        rows = [row for graph in ("int8", "fp32") for row in texts(asked.child, graph, passages)]
        print(json.dumps([*rows, *tokenizers()]))
        return
    load, seconds, given = os.getloadavg()[0], defaultdict[str, dict[str, list[float]]](dict), {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = for_older_code(ROOT / layout.ModelFolder(asked.model).bundle, Path(folder))
        for _ in range(asked.rounds):
            for side, path in {"before": asked.before.resolve(), "after": ROOT}.items():
                for row in run(path, bundle):
                    seconds[row["task"]].setdefault(side, []).append(round(row["seconds"], 3))
                    given[row["task"], side] = row["given"]
    rows = []
    for task, sides in seconds.items():
        pairs = list(zip(given[task, "before"], given[task, "after"], strict=True))
        row = {f"{side}_seconds": statistics.median(each) for side, each in sides.items()}
        row |= {"equal": sum(before == after for before, after in pairs), "of": len(pairs)}
        rows.append({"task": task, **row, "all_seconds": sides})
        took = f"{row['before_seconds']:8.2f} s -> {row['after_seconds']:6.2f} s"
        print(f"{task:45} {took}, {row['equal']} of {row['of']} equal")
    result = {
        "model": asked.model,
        "rounds": asked.rounds,
        "load_before": round(load, 2),
        "rows": rows,
        **environment("onnxruntime", "tokenizers", "numpy", **processor()),
    }
    files.write_json(RESULTS / "lost-speed.json", result)


if __name__ == "__main__":
    main()
