"""YAML as people expect it; a module of its own, as a bundle runs without PyYAML.

Any text gives values or an error, soon: a `yaml.YAMLError`, or a `UserError` that begins with the line.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from gptmodel.errors import UserError
from gptmodel.strict import shown

DEEPEST = 20  # collections inside each other; params.yaml has 4
MOST_VALUES = 50_000  # aliases written out, which can double at every line; params.yaml has 400
LARGEST_BITS = 256  # of an integer: so many can still be shown
MERGE = "tag:yaml.org,2002:merge"
NOT_OF_ITS_TAG = (ArithmeticError, AttributeError, LookupError, ValueError)  # what PyYAML's constructors raise


class Loader(yaml.SafeLoader):
    """1e-3 is a number (as in YAML 1.2), and a key given twice is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0  # so far, aliases written out
        self._sizes: dict[yaml.Node, int] = {}  # in values, of each node that is whole

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node:
        """Return the next node; `UserError` if it lies too deep, or holds itself or too much by aliases."""
        line = _line(self.peek_event())  # type: ignore[no-untyped-call]
        if self._depth == DEEPEST:
            raise UserError(f"{line}: more than {DEEPEST} levels inside each other: take some out")
        before = self._values
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        node = super().compose_node(parent, index)
        assert node is not None  # an event has come
        self._depth -= 1
        if is_alias and node not in self._sizes:
            raise UserError(f"{line}: an alias inside what it stands for: write the values out")
        self._values += self._sizes[node] if is_alias else 1
        if self._values > MOST_VALUES:
            raise UserError(f"{line}: more than {MOST_VALUES:,} values, aliases written out: take some out")
        self._sizes.setdefault(node, self._values - before)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node; `UserError` if its text is not what its tag or its looks say (`!!int abc`)."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
                raise OverflowError
        except NOT_OF_ITS_TAG:
            kind = node.tag.rpartition(":")[-1]
            raise UserError(f"{_line(node)}: {shown(node.value)} is no {kind}: write another value") from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; `UserError` for a key that comes twice, and for the merge key of YAML 1.1."""
        keys = set[Hashable]()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                raise UserError(f"{_line(key_node)}: the merge key << is not read here: write the values out")
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # PyYAML refuses the others
                if key in keys:
                    raise UserError(f"{_line(key_node)}: the key {shown(key)} is given twice: keep one")
                keys.add(key)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _line(place: Any) -> str:
    return f"line {place.start_mark.line + 1}"
