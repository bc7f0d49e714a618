"""One thin entry point per DVC stage: paths -> params -> library call -> write.

The workspace's own src/ comes first on sys.path: with an editable install, `dvc exp run --temp` and `--queue` would
otherwise run the main workspace's library instead of the snapshot's.

Threads that wait for each other go to sleep soon (read by OpenMP when torch is loaded, so it is set here). By default
they spin so long that two trainings on two cores took 17 times as long as one; at once asleep, one alone lost half.
With the value below, one alone took 4 % longer and two side by side a quarter of the time (1.0 M parameters, 2 cores).

The imports of a stage take seconds. A signal that comes meanwhile is one line, as it is later.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # rounds

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

if sys.argv[0] == "-m":  # `python -m pipelines.STAGE` is starting
    from gptmodel import errors

    errors.end_at_once_by_signals()
