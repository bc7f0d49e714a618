"""Time and memory of the novelty figures: 9 samples and their held-out excerpts beside a growing training text.

    python benchmarks/copies.py FILE.txt [FILE.txt ...]

The files are joined, and repeated where they are too short (the time does not depend on what repeats). Half of each
sample is copied from the training text, 100 characters here and there, the other half is held-out text. Each size runs
in a process of its own, on one core; each step is timed three times (processor time), and the fastest counts. The peak
memory is that of the process before and after, the texts included. The result goes to benchmarks/results/copies.json.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from environment import RESULTS, environment, processor

from gptmodel import files
from gptmodel.evaluation import lexicon, memorization, novelty
from gptmodel.results.samples import Sample, Samples

CHARACTERS = [200_000, 3_000_000, 10_000_000]
HELD_OUT = 15_000
SAMPLES, LENGTH, COPIED = 9, 1000, 100
REPEATS = 3


def texts(sources: list[str], characters: int) -> tuple[str, str, list[Sample]]:
    """Return a training text of so many characters, held-out text and samples."""
    text = "\n".join(Path(source).read_text(encoding="utf-8") for source in sources)
    held_out, text = text[-HELD_OUT:], text[:-HELD_OUT]
    train = (text * -(-characters // len(text)))[:characters]
    samples, pieces = [], LENGTH // (2 * COPIED)
    for number in range(SAMPLES):
        copied = (len(train) // (SAMPLES * pieces) * (number * pieces + k) for k in range(pieces))
        own = (HELD_OUT // (SAMPLES * pieces) * (number * pieces + k) for k in range(pieces))
        both = (train[a : a + COPIED] + held_out[b : b + COPIED] for a, b in zip(copied, own, strict=True))
        samples.append(Sample(prompt="", text="".join(both), temperature=1.0, seed=number))
    return train, held_out, samples


def cpu_seconds(work: Callable[..., Any], *given: Any) -> float:
    """Return the processor time of the fastest of some calls."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        work(*given)
        times.append(time.process_time() - started)
    return min(times)


def peak_mb() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def measure(sources: list[str], characters: int) -> dict[str, Any]:
    """Return the figures for one size."""
    train, held_out, samples = texts(sources, characters)
    parts = [sample.text for sample in samples]
    parts += [part.text for part in novelty.excerpts(held_out, [LENGTH] * SAMPLES)]
    runs = [run for part in parts for run in memorization.sequences(memorization.words(part), novelty.COPIED_WORDS)]
    before = peak_mb()
    return {
        "characters": len(train),
        "automaton_cpu_seconds": cpu_seconds(memorization.copied_spans, parts, ""),
        "spans_cpu_seconds": cpu_seconds(memorization.copied_spans, parts, train),
        "spans_peak_mb": [before, peak_mb()],
        "sequences_cpu_seconds": cpu_seconds(memorization.in_training, runs, train),
        "vocabulary_cpu_seconds": cpu_seconds(lexicon.vocabulary, train, "fr"),
        "assess_cpu_seconds": cpu_seconds(novelty.assess, Samples(samples=samples), train, held_out, "fr"),
        "assess_peak_mb": [before, peak_mb()],
    }


def main() -> None:
    """Measure each size in a process of its own, print and record."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    if sys.argv[1].isdigit():
        print(json.dumps(measure(sys.argv[2:], int(sys.argv[1]))))
        return
    sizes = []
    for characters in CHARACTERS:
        command = [sys.executable, __file__, str(characters), *sys.argv[1:]]
        sizes.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(", ".join(f"{key} {value}" for key, value in sizes[-1].items()))
    result = {
        "texts": {
            "files": [Path(source).name for source in sys.argv[1:]],
            "held_out_characters": HELD_OUT,
            "samples": SAMPLES,
            "sample_characters": LENGTH,
        },
        "sizes": sizes,
        **environment("tokenizers", "pyspellchecker", **processor()),
    }
    files.write_json(RESULTS / "copies.json", result)


if __name__ == "__main__":
    main()
