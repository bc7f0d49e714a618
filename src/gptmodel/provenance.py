"""Where a result comes from: a fingerprint of everything that determines a training, and the versions used."""

import hashlib
import inspect
import json
from types import ModuleType
from typing import Any

FINGERPRINT_DIGITS = 16  # 64 bits: enough to tell experiments apart, short enough to read


def fingerprint(values: dict[str, Any], code: list[ModuleType]) -> str:
    """Return hexadecimal digits that change when any of the JSON-able `values` or the source of `code` changes."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for module in code:
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
