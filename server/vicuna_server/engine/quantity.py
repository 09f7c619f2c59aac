"""Kubernetes quantities of memory."""

import re
from decimal import Decimal

from vicuna_server.errors import UsageError

__all__ = ["in_words", "parse_quantity"]

_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(|k|M|G|T|Ki|Mi|Gi|Ti)")


def parse_quantity(text: str, flag: str) -> int:
    """Return the bytes of a quantity such as `13Gi`, `500M` or `1.5G`.

    Args:
        text: The quantity.
        flag: Name of the flag that has it, for the error.

    Raises:
        UsageError: It is not a positive quantity.
    """
    match = _QUANTITY.fullmatch(text.strip())
    size = int(Decimal(match[1]) * _SUFFIXES[match[2]]) if match else 0
    if size <= 0:
        raise UsageError(f"{flag} {text!r} is no quantity of memory; write for example 13Gi")
    return size


def in_words(size: int) -> str:
    """Return bytes as people read them: `13.2 GiB`, or `96 MiB` below one."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"
