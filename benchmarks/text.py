"""Time and memory of the text stages on a large text: fetch, clean, encode at each level.

    python benchmarks/text.py FILE.txt [FILE.txt ...]

The files are repeated up to 50 MB and become the corpus of a scratch copy of the project; each stage runs as DVC runs
it, in a process of its own, once. The result goes to benchmarks/results/text.json.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import RESULTS, ROOT, environment

from gptmodel import files, params

TARGET_BYTES = 50_000_000
STAGES = [["fetch"], ["clean"], ["encode", "char"], ["encode", "bpe"], ["encode", "word"]]
VOCABULARY = {"word": 30_000, "bpe": 8_000}  # what one would choose for a text of this size


def scratch_project(root: Path, sources: list[Path]) -> None:
    """Write a project whose corpus is the sources, repeated."""
    for name in ("pipelines", "src"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data").mkdir()
    shutil.copy(ROOT / "data" / "catalog.yaml", root / "data")
    text = b"\n".join(source.read_bytes() for source in sources)
    (root / "large.txt").write_bytes((text + b"\n") * -(-TARGET_BYTES // len(text)))
    settings = (ROOT / "params.yaml").read_text(encoding="utf-8")
    corpus = params.load(ROOT / "params.yaml").corpus.path
    settings = settings.replace(f"corpus: {corpus}", "corpus: large.txt")
    settings = settings.replace("vocab_size: 3000", f"vocab_size: {VOCABULARY['word']}")
    settings = settings.replace("vocab_size: 1000", f"vocab_size: {VOCABULARY['bpe']}")
    (root / "params.yaml").write_text(settings, encoding="utf-8")


def run(stage: list[str], root: Path) -> dict[str, float]:
    """Run one stage; return its wall time and the peak memory of its process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"pipelines.{stage[0]}", *stage[1:]], cwd=root)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(stage)} failed")
    return {"seconds": time.perf_counter() - started, "peak_memory_mb": usage.ru_maxrss / 1000}


def main() -> None:
    """Measure, print and record."""
    sources = [Path(name) for name in sys.argv[1:]]
    if not sources:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        scratch_project(root, sources)
        size = (root / "large.txt").stat().st_size
        stages = {" ".join(stage): run(stage, root) for stage in STAGES}
    result = {
        "text": {"bytes": size, "files": [source.name for source in sources], "vocabulary": VOCABULARY},
        "stages": stages,
        **environment("tokenizers", "numpy", "pandas"),
    }
    files.write_json(RESULTS / "text.json", result)
    for stage, figures in stages.items():
        print(f"{stage}: {figures['seconds']:.1f} s, {figures['peak_memory_mb']:.0f} MB")


if __name__ == "__main__":
    main()
