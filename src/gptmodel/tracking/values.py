"""Names and values as MLflow takes them."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import TypeVar

T = TypeVar("T")


def flatten(nested: Mapping[str, object], joint: str, above: str = "") -> Iterator[tuple[str, object]]:
    """Yield the leaves of a nested dict with their keys joined.

    >>> list(flatten({"network": "gpt", "split": {"train": 0.85, "test": None}}, "."))
    [('network', 'gpt'), ('split.train', 0.85), ('split.test', None)]
    """
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, joint, f"{above}{key}{joint}")
        else:
            yield f"{above}{key}", value


def numbers(nested: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Yield the leaves of a nested dict that are numbers, names joined by dots."""
    for key, value in flatten(nested, "."):
        if isinstance(value, Real) and not math.isnan(value):
            yield key, float(value)


def as_text(value: object) -> str:
    """Write a value as params.yaml would: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def valid_name(key: str) -> str:
    """Make a name that MLflow takes: letters, digits, space and _ . : - in parts joined by /, at most 250 characters.

    >>> valid_name("latency (ms)/batch@8"), valid_name("/a//b/")
    ('latency _ms_/batch_8', 'a/b')
    """
    parts = [part for part in re.sub(r"[^\w./: -]", "_", key)[:250].split("/") if part.strip(".")]
    return "/".join(parts) or "_"


def batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
