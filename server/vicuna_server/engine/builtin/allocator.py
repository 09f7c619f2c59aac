"""Which block of the preallocated KV cache belongs to which sequence; numbers only, without tensors.

Every sequence's keys and values lie in one contiguous block, so that attention reads them in place: pages
scattered over the cache would have to be gathered at every step. The price: a block that cannot grow
in its place must move, which is a plain copy.
"""

from bisect import insort
from dataclasses import dataclass

__all__ = ["BLOCK_TOKENS", "Block", "KVCacheAllocator", "Move"]

BLOCK_TOKENS = 64
"""Blocks are multiples of so many tokens, so that most growth by one token needs no work."""


@dataclass(slots=True, eq=False)
class Block:
    """A contiguous part of the cache, in tokens."""

    start: int
    size: int

    def __lt__(self, other: "Block") -> bool:
        return self.start < other.start


@dataclass(frozen=True, slots=True)
class Move:
    """A block that changed its place, and where it was."""

    block: Block
    source: int


class KVCacheAllocator:
    """Hands out blocks of a cache with room for `capacity` tokens."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity // BLOCK_TOKENS * BLOCK_TOKENS
        self.used = 0
        self._blocks: list[Block] = []  # in the order of their places

    @staticmethod
    def padded(tokens: int) -> int:
        """Return the size of a block for so many tokens."""
        return max(1, -(-tokens // BLOCK_TOKENS)) * BLOCK_TOKENS

    @property
    def free(self) -> int:
        """Tokens that no block holds, perhaps in several gaps."""
        return self.capacity - self.used

    def allocate(self, tokens: int) -> Block | None:
        """Return a block in the first gap that is large enough; None when there is none."""
        size, start = self.padded(tokens), 0
        for other in self._blocks:
            if other.start - start >= size:
                break
            start = other.start + other.size
        if start + size > self.capacity:
            return None
        block = Block(start, size)
        insort(self._blocks, block)
        self.used += size
        return block

    def extend(self, block: Block, tokens: int) -> bool:
        """Let a block grow where it lies; False when its neighbour is in the way."""
        size, index = self.padded(tokens), self._blocks.index(block)
        following = self._blocks[index + 1].start if index + 1 < len(self._blocks) else self.capacity
        if block.start + size > following:
            return False
        grown = max(0, size - block.size)
        block.size += grown
        self.used += grown
        return True

    def trim(self, block: Block, tokens: int) -> None:
        """Give back what lies behind the first `tokens`."""
        spare = block.size - self.padded(tokens)
        block.size -= spare
        self.used -= spare

    def release(self, block: Block) -> None:
        """Take a block back."""
        self._blocks.remove(block)
        self.used -= block.size

    def compact(self) -> list[Move]:
        """Push all blocks to the front, so that what is free is one gap; return the moves in a safe order."""
        moves, end = [], 0
        for block in self._blocks:
            if block.start != end:
                moves.append(Move(block, block.start))
                block.start = end
            end += block.size
        return moves
