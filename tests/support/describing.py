"""What `kubectl describe` prints of an object whose kind it does not know, line by line.

As kubectl's generic describer does: name and labels, then every field in alphabetical order, then the Events.
https://github.com/kubernetes/kubectl/blob/master/pkg/describe/describe.go
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_HIDDEN = {"managedFields", "name", "namespace", "labels", "annotations"}


def describe(body: Mapping[str, Any], events: Sequence[tuple[str, str, str]]) -> list[str]:
    metadata = {key: value for key, value in body["metadata"].items() if key not in _HIDDEN}
    lines = [f"{name}: {body['metadata'].get(name.lower())}" for name in ("Name", "Namespace", "Labels", "Annotations")]
    lines += _fields({**body, "metadata": metadata}, 0)
    lines += ["Events:", "  Type Reason Age From Message", "  ---- ------ ---- ---- -------"] if events else []
    return [*lines, *(f"  {kind} {reason} 1s vicuna-operator {message}" for kind, reason, message in events)]


def _fields(value: Mapping[str, Any], level: int) -> Iterator[str]:
    for name in sorted(value):
        item = value[name]
        label = f"{'  ' * level}{name[0].upper()}{name[1:]}:"
        if isinstance(item, Mapping):
            yield label
            yield from _fields(item, level + 1)
        elif isinstance(item, list):
            yield label
            for entry in item:
                yield from _fields(entry, level + 1) if isinstance(entry, Mapping) else [f"{'  ' * level}  {entry}"]
        else:
            yield from f"{label} {item}".splitlines()
