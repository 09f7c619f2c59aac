"""How much of answers is held back until they are complete: bounded, for each and for all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Held", "Holding"]

HELD_BYTES = 2**20
ALL_HELD_BYTES = 32 * 2**20


class Held:
    """Counts the bytes of all answers that are held back.

    Args:
        most: of all together.
        each: of one answer.
    """

    def __init__(self, most: int = ALL_HELD_BYTES, each: int = HELD_BYTES) -> None:
        self.most = most
        self.each = each
        self.bytes = 0

    @contextmanager
    def one(self) -> Iterator["Holding"]:
        """Hold back one answer; at the end it is held no longer."""
        holding = Holding(self)
        try:
            yield holding
        finally:
            holding.let_go()


@dataclass(slots=True)
class Holding:
    """What is held of one answer."""

    held: Held
    bytes: int = 0

    def more(self, count: int) -> bool:
        """Hold so many bytes more, if there is room."""
        if self.bytes + count > self.held.each or self.held.bytes + count > self.held.most:
            return False
        self.bytes += count
        self.held.bytes += count
        return True

    def let_go(self) -> None:
        """Hold nothing any more."""
        self.held.bytes -= self.bytes
        self.bytes = 0
