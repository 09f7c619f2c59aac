"""A tensor of one layer or expert held against its like in the others."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import product
from typing import TypeAlias

from vicuna_server.merge.preflight.architectures import Shape
from vicuna_server.merge.preflight.comparison import Tensors

__all__ = ["odd_one_out"]

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_MOST_DIGITS = 9
_Numbers: TypeAlias = tuple[int, ...]


def odd_one_out(tensors: Tensors) -> str | None:
    """Return what is wrong with a tensor that its like in other layers or experts do not share, in words.

    Args:
        tensors: type and shape by name.
    """
    series: defaultdict[tuple[str, ...], dict[_Numbers, Shape]] = defaultdict(dict)
    for name, (_, shape) in tensors.items():
        numbers = tuple(int(digits[:_MOST_DIGITS]) for digits in _NUMBER.findall(name))
        series[tuple(_NUMBER.split(name))][numbers] = shape
    odd = (_misshapen(parts, found) or _lost(parts, found) for parts, found in series.items())
    return next(filter(None, odd), None)


def _misshapen(parts: tuple[str, ...], found: Mapping[_Numbers, Shape]) -> str | None:
    usual, _ = Counter(found.values()).most_common(1)[0]
    strange = next((numbers for numbers, shape in found.items() if shape != usual), None)
    if strange is None:
        return None
    return f"{_name(parts, strange)} is {list(found[strange])} where the others are {list(usual)}"


def _lost(parts: tuple[str, ...], found: Mapping[_Numbers, Shape]) -> str | None:
    wanted = product(*(sorted(set(numbers)) for numbers in zip(*found, strict=True)))
    lost = next((numbers for numbers in wanted if numbers not in found), None)
    return None if lost is None else f"{_name(parts, lost)} is not there, as it is in others"


def _name(parts: tuple[str, ...], numbers: _Numbers) -> str:
    return "".join(part + str(number) for part, number in zip(parts, (*numbers, ""), strict=True))
