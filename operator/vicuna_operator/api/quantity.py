"""Kubernetes quantities, as far as memory and storage need them."""

import re
from fractions import Fraction

__all__ = ["parse_quantity"]

_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<suffix>[eE][+-]?\d+|Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E)?")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def parse_quantity(text: str | int) -> int:
    """Return a quantity in whole units (bytes for memory and storage), rounded up.

    Format: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: the text is no quantity.
    """
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is no quantity such as 13Gi or 500M")
    value, suffix = Fraction(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        value *= 1024 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        value *= 1000 ** _DECIMAL[suffix]
    elif suffix == "m":
        value /= 1000
    elif suffix:
        value *= Fraction(10) ** int(suffix[1:])
    return -(-value.numerator // value.denominator)
