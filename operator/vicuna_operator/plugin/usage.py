"""What keys used of models, from the VicunaUsages of a gateway. Pure."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from vicuna_contract.names import LABEL_DAY
from vicuna_contract.usage import COUNTS, rows_of

__all__ = ["COLUMNS", "as_csv", "usage_rows"]

COLUMNS = ("day", "key", "model")
"""What can be told apart."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def usage_rows(
    objects: Iterable[Mapping[str, Any]], by: Sequence[str], days: int, now: datetime
) -> list[dict[str, str | int]]:
    """Return the sums of the last days.

    Args:
        objects: VicunaUsages.
        by: some of `COLUMNS`, in the order in which rows are sorted.
        days: how many, today included.
        now: the present time in UTC.
    """
    first = (now - timedelta(days=days - 1)).strftime("%Y-%m-%d")
    sums: Counter[tuple[tuple[str, ...], str]] = Counter()
    for body in objects:
        labels = body.get("metadata", {}).get("labels") or {}
        day = str(labels.get(LABEL_DAY, ""))
        for row in rows_of(body) if day >= first else ():
            told = {"day": day, "key": row.key, "model": row.model}
            place = tuple(told[column] for column in by)
            sums.update({(place, name): count for name, count in zip(COUNTS, row.counts, strict=True)})
    return [
        dict(zip(by, place, strict=True)) | {name: sums[place, name] for name in COUNTS}
        for place in sorted({place for place, _ in sums})
    ]


def as_csv(rows: Sequence[Mapping[str, str | int]], by: Sequence[str]) -> str:
    """Return rows as CSV with a header; no name in it is a formula to a spreadsheet (OWASP, CSV injection)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*by, *COUNTS])
    for row in rows:
        writer.writerow([_harmless(row[column]) for column in (*by, *COUNTS)])
    return text.getvalue()


def _harmless(value: str | int) -> str | int:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
