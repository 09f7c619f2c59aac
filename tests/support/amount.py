"""How much of a test `make unit` and `make test` do."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import settings

__all__ = ["examples", "first", "one_of_five", "some"]

Value = TypeVar("Value")

_WHOLE = 100  # examples of a property in `make test-full`, unless it says another number


def examples(whole: int) -> int:
    """Return how many examples to try where `make test-full` tries this many."""
    return max(1, whole * settings.get_profile(settings.get_current_profile_name()).max_examples // _WHOLE)


def first(values: Iterable[Any], count: int = 1) -> list[Any]:
    """Return the values of a parameter with all but the first few marked long."""
    return [
        value if index < count else pytest.param(value, marks=pytest.mark.long) for index, value in enumerate(values)
    ]


def one_of_five(rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Return the rows of a table of several parameters with four of five marked long."""
    return [pytest.param(*row, marks=[pytest.mark.long] if index % 5 else []) for index, row in enumerate(rows)]


def some(values: Sequence[Value]) -> Sequence[Value]:
    """Return the values that one test goes through: in `make unit` every fifth, else all."""
    return values[::5] if settings.get_current_profile_name() == "few" else values
