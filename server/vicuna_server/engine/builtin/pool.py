"""Which stretch of the preallocated cache belongs to whom; numbers only, no tensors.

Every sequence's keys and values lie in one contiguous region, so that attention reads them in place: pages
scattered over the cache would have to be gathered at every step. The price is that a region that cannot grow
where it lies must move, which is a plain copy.
"""

from bisect import insort
from dataclasses import dataclass

__all__ = ["BLOCK", "Move", "Region", "TokenPool"]

BLOCK = 64
"""Regions are multiples of so many tokens, so that growing by a token costs nothing most of the time."""


@dataclass(slots=True, eq=False)
class Region:
    """A contiguous stretch of the pool, in tokens."""

    start: int
    size: int

    def __lt__(self, other: "Region") -> bool:
        return self.start < other.start


@dataclass(frozen=True, slots=True)
class Move:
    """A region that changed its place, and where it was."""

    region: Region
    source: int


class TokenPool:
    """Hands out regions of a cache with room for `capacity` tokens."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity // BLOCK * BLOCK
        self.used = 0
        self._regions: list[Region] = []  # in the order of their places

    @staticmethod
    def padded(tokens: int) -> int:
        """Return the size of a region for so many tokens."""
        return max(1, -(-tokens // BLOCK)) * BLOCK

    @property
    def free(self) -> int:
        """Tokens that no region holds, perhaps in several gaps."""
        return self.capacity - self.used

    def allocate(self, tokens: int) -> Region | None:
        """Return a region in the first gap that is large enough; None when there is none."""
        size, start = self.padded(tokens), 0
        for other in self._regions:
            if other.start - start >= size:
                break
            start = other.start + other.size
        if start + size > self.capacity:
            return None
        region = Region(start, size)
        insort(self._regions, region)
        self.used += size
        return region

    def extend(self, region: Region, tokens: int) -> bool:
        """Let a region grow where it lies; False when its neighbour is in the way."""
        size, index = self.padded(tokens), self._regions.index(region)
        following = self._regions[index + 1].start if index + 1 < len(self._regions) else self.capacity
        if region.start + size > following:
            return False
        grown = max(0, size - region.size)
        region.size += grown
        self.used += grown
        return True

    def trim(self, region: Region, tokens: int) -> None:
        """Give back what lies behind the first `tokens`."""
        spare = region.size - self.padded(tokens)
        region.size -= spare
        self.used -= spare

    def release(self, region: Region) -> None:
        """Take a region back."""
        self._regions.remove(region)
        self.used -= region.size

    def compact(self) -> list[Move]:
        """Push all regions to the front, so that what is free is one gap; return the moves in a safe order."""
        moves, end = [], 0
        for region in self._regions:
            if region.start != end:
                moves.append(Move(region, region.start))
                region.start = end
            end += region.size
        return moves
