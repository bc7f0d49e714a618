"""Strategies of hypothesis for content that something happened to: bytes that changed, JSON that was edited."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1 << 40,
    10**30,
    1e308,
    float("nan"),
    "",
    "é",
    "../x",
    "\0",
    "\ud800",
    [],
    {},
    [1],
]


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw `content` after some bytes were replaced, removed or added."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(changed)))
        removed = draw(st.sampled_from([0, 1, 1, 1, 40, 4000]))
        changed[place : place + removed] = draw(st.binary(min_size=0, max_size=2))
    return bytes(changed)


@st.composite
def changed_json(draw: st.DrawFn, content: str) -> bytes:
    """Draw JSON after values were replaced or changed a little, and keys were removed or renamed.

    What lies near the top, where the settings are, changes as often as all the rest.
    """
    value = json.loads(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        path = draw(st.sampled_from([place for place in places if len(place) <= 2]) | st.sampled_from(places))
        inside = value
        for key in path[:-1]:
            inside = inside[key]
        _change(draw, inside, path[-1])
    return json.dumps(value).encode()


def _change(draw: st.DrawFn, inside: Any, key: Any) -> None:
    kind = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add"]))
    old = inside[key]
    if kind == "remove":
        del inside[key]
    elif kind == "rename" and isinstance(inside, dict):
        inside[draw(st.sampled_from(["", "x", "é", "<unk>"]))] = inside.pop(key)
    elif kind == "add" and isinstance(old, int | float):
        inside[key] = old + draw(st.sampled_from([-1, 1, 1000]))
    else:
        inside[key] = json.loads(json.dumps(draw(st.sampled_from(VALUES))))


def _places(value: Any, path: Path = ()) -> Iterator[Path]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in pairs:
        yield (*path, key)
        yield from _places(inside, (*path, key))
