"""Values that others may have written: annotations, termination messages, statuses. What is malformed is the default.

A pass over a model must never end because somebody edited an annotation by hand.
"""

import json
from datetime import UTC, datetime
from typing import Any

from vicuna_operator.api.conditions import parse_time

__all__ = ["moment", "parsed", "whole"]

_MOST = 2**63


def whole(value: object, default: int = 0) -> int:
    """Read a whole number of 0 or more, from a number or from ASCII digits; what fits no int64 is the default."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not (text.isascii() and text.isdigit()) or len(text) > len(str(_MOST)):
        return default
    return int(text) if int(text) < _MOST else default


def parsed(text: object) -> Any:
    """Read JSON; None where it is none, or nested beyond what can be read."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (RecursionError, ValueError):
        return None


def moment(text: object) -> datetime | None:
    """Read an RFC 3339 time; None where it is none. A time without a zone is UTC."""
    try:
        found = parse_time(text) if isinstance(text, str) and text else None
        return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)
    except (OverflowError, ValueError):
        return None
