"""Sizes and switches of a config.json, which may say anything."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["BadFieldError", "Fields", "shown"]

_MOST = 2**40  # above any dimension or number of layers, and products of such values stay cheap
_MOST_LETTERS = 40


class BadFieldError(Exception):
    """A field that cannot be used; the text says which, and what it holds."""


class Fields:
    """Reads a config as transformers does: the family's default where a field is absent.

    Args:
        config: config.json's content.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def size(self, *names: str, default: int) -> int:
        """Return a positive whole number under the first of these names that is there.

        Raises:
            BadFieldError: it is something else.
        """
        found = self._first(names)
        return default if found is None else _size(found, self._config[found])

    def optional_size(self, *names: str, default: int | None = None) -> int | None:
        """Return a size, or None where the config says null; `default` where it says nothing.

        Raises:
            BadFieldError: it is something else.
        """
        found = self._first(names)
        if found is None:
            return default
        return None if self._config[found] is None else _size(found, self._config[found])

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a switch.

        Raises:
            BadFieldError: it is neither true nor false.
        """
        value = self._config.get(name, default)
        if not isinstance(value, bool):
            raise BadFieldError(f"says {name} is {shown(value)}, which is neither true nor false")
        return value

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._config.get(name) is not None

    def multiple(self, name: str, whole: int, part_name: str, part: int) -> int:
        """Return how often a part fits.

        Raises:
            BadFieldError: it does not fit evenly.
        """
        if whole % part:
            raise BadFieldError(f"says {name} is {whole}, which is not a multiple of {part_name}, {part}")
        return whole // part

    def _first(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in self._config), None)


def _size(name: str, value: Any) -> int:
    if type(value) is not int or not 0 < value <= _MOST:
        raise BadFieldError(f"says {name} is {shown(value)}, which is not a size")
    return value


def shown(value: Any) -> str:
    """Return a field's value as JSON, cut where it is long."""
    try:
        text = json.dumps(value)
    except ValueError:  # a number of thousands of digits
        return "a huge number"
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"
