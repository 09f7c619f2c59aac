"""Kubernetes quantities, as far as memory and storage need them."""

import re
from fractions import Fraction
from functools import lru_cache

__all__ = ["in_words", "parse_quantity"]

_QUANTITY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<suffix>[eE][+-]?[0-9]+|[KMGTPE]i|[mkMGTPE])?")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_MOST_CHARACTERS = 64
_MOST_EXPONENT = 30  # beyond it a number is not a size; 10 to a large power would take all memory


@lru_cache(maxsize=256, typed=True)  # an operator reads the same few at each pass
def parse_quantity(text: str | int) -> int:
    """Return a quantity in whole units (bytes for memory and storage), rounded up.

    Format: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: the text is not a quantity.
    """
    words = str(text).strip()
    match = _QUANTITY.fullmatch(words) if len(words) <= _MOST_CHARACTERS else None
    if match is None:
        raise ValueError(f"{words[:_MOST_CHARACTERS]!r} is not a quantity such as 13Gi or 500M")
    value, suffix = Fraction(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        value *= 1024 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        value *= 1000 ** _DECIMAL[suffix]
    elif suffix == "m":
        value /= 1000
    elif suffix:
        value *= Fraction(10) ** _exponent(words, suffix)
    return -(-value.numerator // value.denominator)


def _exponent(words: str, suffix: str) -> int:
    exponent = int(suffix[1:])
    if abs(exponent) > _MOST_EXPONENT:
        raise ValueError(f"{words!r} has an exponent beyond {_MOST_EXPONENT}; write a quantity such as 13Gi or 500M")
    return exponent


def in_words(size: int) -> str:
    """Return bytes as people read them: `13.2 GiB`, or `96 MiB` below one."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"
