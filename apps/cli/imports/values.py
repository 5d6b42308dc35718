"""YAML (and JSON) as values whose objects know the line at which they begin."""

from __future__ import annotations

from typing import Any

import yaml

_ALIASES_MAXIMUM = 1_000


class LinedMapping(dict[str, Any]):
    """An object, and the line at which it begins."""

    line: int = 1


class _Loader(yaml.SafeLoader):
    """Dates stay texts; objects know their lines; what refers to itself, or too often, is refused."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > _ALIASES_MAXIMUM:
                raise yaml.YAMLError(f"more than {_ALIASES_MAXIMUM} references")
        return super().compose_node(parent, index)

    def mapping(self, node: yaml.MappingNode) -> LinedMapping:
        found = LinedMapping()
        found.line = node.start_mark.line + 1
        self.flatten_mapping(node)
        for key, value in node.value:
            found[str(self.construct_object(key, deep=True))] = self.construct_object(value, deep=True)
        return found

    def text(self, node: yaml.ScalarNode) -> str:
        return str(self.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.text)


def load(text: str) -> list[Any]:
    """The values of all documents of a text. Raises yaml.YAMLError."""
    return list(yaml.load_all(text, Loader=_Loader))
