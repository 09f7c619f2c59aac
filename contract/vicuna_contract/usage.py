"""What a VicunaUsage says was counted: written by gateways, read by them and by whoever asks what was used."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["COUNTS", "OTHER", "Row", "count_of", "rows_of"]

COUNTS: Final = ("requests", "promptTokens", "completionTokens")
"""What is counted of each key and model."""
OTHER: Final = "(other)"
"""Key and model of what is counted together, since one object has no room for more; nothing is called that."""


class Row(NamedTuple):
    """What one key used of one model; counts as in `COUNTS`."""

    key: str
    model: str
    counts: tuple[int, ...]


def rows_of(body: Mapping[str, Any]) -> Iterator[Row]:
    """Return what an object counted; what cannot be read of it is left out."""
    for entry in _list(body.get("usage")):
        key, model = entry.get("key"), entry.get("model")
        if isinstance(key, str) and isinstance(model, str):
            yield Row(key, model, tuple(count_of(entry.get(name)) for name in COUNTS))


def count_of(value: object) -> int:
    """Return a count as an object has it; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _list(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
