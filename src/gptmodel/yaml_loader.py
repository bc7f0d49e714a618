"""YAML as people expect it; a module of its own, as a bundle runs without PyYAML."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from gptmodel.errors import UserError


class Loader(yaml.SafeLoader):
    """1e-3 is a number (as in YAML 1.2), and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; `UserError` for a key that comes twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"line {node.start_mark.line + 1}: the key {key!r} is given twice: keep one")
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
