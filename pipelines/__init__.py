"""One thin entry point per DVC stage: paths -> params -> library call -> write.

The workspace's own src/ comes first on sys.path: with an editable install, `dvc exp run --temp` and `--queue` would
otherwise run the main workspace's library instead of the snapshot's.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
