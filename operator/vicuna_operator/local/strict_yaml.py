"""YAML in which no key is there twice, as an API server reads it; Python's own reader takes the last one."""

from typing import Any

import yaml

__all__ = ["load_all"]


def load_all(text: str) -> list[Any]:
    """Return the documents of a text.

    Raises:
        yaml.YAMLError: it is not YAML, or an object has a key twice.
    """
    return list(yaml.load_all(text, Loader=_Loader))  # a safe loader


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):  # those of `<<` come later
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} is there twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node
