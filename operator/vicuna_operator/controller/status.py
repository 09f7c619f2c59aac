"""The difference between two statuses as a merge-patch."""

from collections.abc import Mapping
from typing import Any

from vicuna_operator.planning.lenient import OBJECT

__all__ = ["status_patch", "without_nulls"]

_PLAIN = (str, int, float)


def status_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the merge-patch (RFC 7396) that makes `old` into `new`; None when they say the same.

    Nulls mean absence. A key that vanished needs an explicit null; lists are replaced as a whole.
    """
    return _difference(without_nulls(old), without_nulls(new)) or None


def without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the nulls of a mapping at any depth."""
    result: dict[str, Any] = _strip(value)
    return result


def _strip(value: Any) -> Any:
    if isinstance(value, _PLAIN):  # most are, and that they are no Mapping is found much later
        return value
    if isinstance(value, OBJECT):
        return {str(key): _strip(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_strip(item) for item in value]
    return value


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if key in old and before == value:
            continue
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            patch[key] = _difference(before, value)
        else:
            patch[key] = value
    return patch
