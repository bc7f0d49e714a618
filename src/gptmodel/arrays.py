"""The kinds of numpy arrays that rooms hand to each other, named once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer[Any]]  # token ids: uint16 or uint32 on disk, int64 in computations
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Logits = NDArray[np.float32]
Mask = NDArray[np.bool_]
