"""Values that others may have written: annotations, termination messages, statuses. Malformed ones give the default.

A pass over a model must never fail because somebody edited an annotation by hand, or because a status is malformed.
Texts lose their control characters here, so that none reaches the terminal of whoever reads a status.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vicuna_contract.printable import printable
from vicuna_contract.quantity import parse_quantity
from vicuna_operator.api.conditions import parse_time
from vicuna_operator.resources.identity import short_hash

__all__ = [
    "INT32",
    "OBJECT",
    "fingerprint",
    "moment",
    "parsed",
    "quantity",
    "table",
    "tables",
    "text",
    "texts",
    "whole",
]

INT32 = 2**31 - 1
OBJECT = (dict, Mapping)
"""What JSON's objects are: nearly always a dict, which is found much sooner than a Mapping."""
_MOST = 2**63 - 1
_YEARS = range(1970, 9000)  # below datetime's limit, so that adding a deadline cannot overflow


def whole(value: object, default: int = 0, *, most: int = _MOST) -> int:
    """Read a whole number from 0 to `most`, from a number or from ASCII digits; anything else gives the default."""
    found = value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_MOST)):
        found = int(value)
    fits = isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= most
    return found if fits and isinstance(found, int) else default


def text(value: object) -> str:
    """Read a text, without its control characters; empty where it is not a text."""
    return printable(value) if isinstance(value, str) else ""


def texts(value: object) -> Mapping[str, str]:
    """Read an object all of whose members are texts, such as labels; other members are left out."""
    return {key: text(item) for key, item in table(value).items() if isinstance(item, str)}


def table(value: object, *path: str) -> Mapping[str, Any]:
    """Read the object at a path; empty where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, OBJECT) else None
    return value if isinstance(value, OBJECT) else {}


def tables(value: object) -> Sequence[Mapping[str, Any]]:
    """Read a list of objects; what is not one is left out."""
    return [item for item in value if isinstance(item, OBJECT)] if isinstance(value, list | tuple) else []


def quantity(value: object) -> str:
    """Read a quantity as it is written; empty where it is not a quantity."""
    try:
        _ = parse_quantity(value) if isinstance(value, str | int) else parse_quantity("")
    except ValueError:
        return ""
    return str(value)


def fingerprint(value: object) -> str:
    """Return 16 hex digits that identify a value; empty where it has no JSON form."""
    try:
        return short_hash(value, 16)
    except (RecursionError, TypeError, ValueError):
        return ""


def parsed(value: object) -> Any:
    """Read JSON; None where it is not JSON, or is nested too deeply."""
    try:
        return json.loads(value) if isinstance(value, str) else None
    except (RecursionError, ValueError):
        return None


def moment(value: object) -> datetime | None:
    """Read an RFC 3339 time, in UTC; None where it is not a time. A time without a zone is UTC."""
    try:
        found = parse_time(value) if isinstance(value, str) and value else None
        found = found if found is None or found.tzinfo else found.replace(tzinfo=UTC)
        found = found.astimezone(UTC) if found is not None else None
    except (OverflowError, ValueError):
        return None
    return found if found is not None and found.year in _YEARS else None
