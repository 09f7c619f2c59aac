"""The GPUs that a table of memory is asked about."""

from argparse import ArgumentTypeError
from dataclasses import dataclass
from typing import Self

from vicuna_contract.heads import MOST_GPUS
from vicuna_contract.quantity import parse_quantity

__all__ = ["Gpus"]

_LEAST = 2**30  # `24` is bytes, as a quantity of Kubernetes, and not what somebody meant


@dataclass(frozen=True)
class Gpus:
    """GPUs of one size, in bytes."""

    count: int
    size: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `24Gi`, or `2x24Gi`.

        Raises:
            argparse.ArgumentTypeError: the text is neither.
        """
        count, cross, size = text.rpartition("x")
        try:
            gpus = cls(int(count) if cross else 1, parse_quantity(size))
        except ValueError:
            gpus = cls(0, 0)
        if not (0 < gpus.count <= MOST_GPUS and gpus.size >= _LEAST):
            raise ArgumentTypeError(f"{text[:40]!r} is no size of a GPU's memory such as 24Gi, or 2x24Gi for two")
        return gpus
