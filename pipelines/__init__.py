"""One thin entry point per DVC stage: paths -> params -> library call -> write.

The workspace's own src/ comes first on sys.path: with an editable install, `dvc exp run --temp` and `--queue` would
otherwise run the main workspace's library instead of the snapshot's.

Threads that wait for each other sleep instead of spinning (read by OpenMP when torch is loaded, so it is set here):
two trainings on one machine then take twice as long as one, not twenty times.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
