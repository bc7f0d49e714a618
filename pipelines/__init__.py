"""One thin entry point per DVC stage: paths -> params -> library call -> write.

The workspace's own src/ comes first on sys.path: with an editable install, `dvc exp run --temp` and `--queue` would
otherwise run the main workspace's library instead of the snapshot's.

Threads that wait for each other go to sleep soon (read by OpenMP when torch is loaded, so it is set here). By default
they spin so long that two trainings on two cores took 17 times as long as one; at once asleep, two threads are slower
than one (benchmarks/threads.py). With the value below, one training alone took 4 % longer and two side by side a
quarter of the time (1.0 M parameters, 2 cores). Whoever sets OMP_WAIT_POLICY decides. The OpenMP of macOS and Windows
has a variable of its own, in milliseconds; that is not measured.

The imports of a stage take seconds. A signal that comes meanwhile is one line, as it is later.
"""

import os
import sys
from pathlib import Path

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # rounds
    os.environ.setdefault("KMP_BLOCKTIME", "1")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

if sys.argv[0] == "-m":  # `python -m pipelines.STAGE` is starting
    from gptmodel import errors

    errors.end_at_once_by_signals()
