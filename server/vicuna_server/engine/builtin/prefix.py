"""The KV cache: blocks of running sequences, and blocks of finished ones, kept for sequences that begin alike.

The next turn of a conversation begins with the tokens of the last one, and requests to one model often share
their system text. Keys and values depend on nothing but the tokens up to their place. So the block of a sequence that
begins with the same tokens is taken over or copied: within a scope, and never across (`CacheScope`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from vicuna_server.engine.builtin.allocator import Block, KVCacheAllocator
from vicuna_server.engine.builtin.kv import KeyValueStore
from vicuna_server.engine.scope import EVERYBODY, CacheScope

__all__ = ["Placing", "PrefixCache", "SequenceTokens", "common_prefix"]

MIN_SHARED = 16
"""Fewer tokens in common are not worth a copy, nor waiting for."""
MAX_KEPT = 256
"""Blocks of finished sequences kept at most, so that looking through them stays cheap."""


@dataclass(slots=True, eq=False)
class SequenceTokens:
    """The tokens of a sequence, and where the keys and values of the first of them lie.

    Attributes:
        ids: All tokens.
        block: Where; None: they have no block at the moment.
        computed: How many of the first tokens have their keys and values there.
        scope: Which requests it may share keys and values with.
    """

    ids: list[int]
    block: Block | None = None
    computed: int = field(default=0)
    scope: CacheScope = EVERYBODY


class Placing(Enum):
    """What came of the attempt to give a sequence its block."""

    PLACED = "placed"
    FULL = "full"
    """The cache is full."""
    COMING = "coming"
    """A running sequence is about to compute what this one needs too."""


class PrefixCache:
    """Gives sequences their blocks, and drops the longest unused block of a finished one where room is needed.

    Args:
        store: The buffers.
        capacity: Tokens they have room for.
        reuse: Whether keys and values are shared at all.
    """

    def __init__(self, store: KeyValueStore, capacity: int, *, reuse: bool = True) -> None:
        self._store = store
        self._pool = KVCacheAllocator(capacity)
        self._reuse = reuse
        self._kept: list[SequenceTokens] = []  # the longest unused first

    @property
    def used(self) -> int:
        """Tokens in blocks, the padding of blocks and kept blocks included."""
        return self._pool.used

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self._pool.capacity

    def place(
        self, tokens: SequenceTokens, room: int, running: Iterable[SequenceTokens], *, share: bool = True
    ) -> Placing:
        """Give a sequence its block, with the keys and values of its beginning that are there already.

        Args:
            tokens: Those of a sequence without a block; `block` and `computed` are set.
            room: Size of its block in tokens, at least.
            running: Those of sequences in the batch, which may be copied from within their scope.
            share: False: all of its tokens are to be computed.
        """
        donor, shared, coming = self._donor(tokens, list(running)) if share and self._reuse else (None, 0, 0)
        if coming - shared >= MIN_SHARED:
            return Placing.COMING
        if donor is None or shared < MIN_SHARED:
            return self._place_anew(tokens, room, None)
        if donor not in self._kept:
            return self._place_copy(tokens, room, donor, shared)
        # To the end of the line: the last to be dropped.
        self._kept.remove(donor)
        if 2 * shared < donor.computed:
            self._kept.append(donor)
            return self._place_copy(tokens, room, donor, shared)
        tokens.block, tokens.computed = donor.block, shared
        if self.ensure(tokens, room):
            return Placing.PLACED
        self.drop(tokens)
        return Placing.FULL

    def ensure(self, tokens: SequenceTokens, length: int) -> bool:
        """Make a block large enough, and move it where its neighbour is in the way; False when the cache is full."""
        block = tokens.block
        if block is None or block.size >= length:
            return block is not None
        while not self._pool.extend(block, length):
            # A quarter more than needed, so that a growing block moves only now and then.
            larger = self._pool.allocate(length + length // 4) or self._pool.allocate(length)
            if larger is not None:
                self._store.copy(block.start, larger.start, tokens.computed)
                self._pool.release(block)
                tokens.block = larger
                return True
            if not self._make_room(self._pool.padded(length) - block.size, None):
                return False
        return True

    def keep(self, tokens: SequenceTokens) -> None:
        """Keep a finished sequence's block for those of its scope that begin with the same tokens."""
        if tokens.block is None or tokens.computed < MIN_SHARED or not (self._reuse and tokens.scope.kept):
            self.drop(tokens)
            return
        self._pool.trim(tokens.block, tokens.computed)
        self._kept.append(SequenceTokens(tokens.ids[: tokens.computed], tokens.block, tokens.computed, tokens.scope))
        tokens.block, tokens.computed = None, 0
        if len(self._kept) > MAX_KEPT:
            self.drop(self._kept.pop(0))

    def drop(self, tokens: SequenceTokens) -> None:
        """Free a sequence's block; none of its tokens is computed then."""
        if tokens.block is not None:
            self._pool.release(tokens.block)
        tokens.block, tokens.computed = None, 0

    def _donor(self, tokens: SequenceTokens, running: list[SequenceTokens]) -> tuple[SequenceTokens | None, int, int]:
        """Return who of its scope has most in common, how much of that is computed, and how much will be."""
        best, shared, coming = None, 0, 0
        limit = len(tokens.ids) - 1  # the last token must run, for its logits
        for other in (*running, *self._kept):
            if other is tokens or other.block is None or other.scope != tokens.scope:
                continue
            common = common_prefix(tokens.ids, other.ids, limit)
            coming = max(coming, common)
            if min(common, other.computed) > shared:
                best, shared = other, min(common, other.computed)
        return best, shared, coming

    def _place_anew(self, tokens: SequenceTokens, room: int, spared: SequenceTokens | None) -> Placing:
        while (block := self._pool.allocate(room)) is None:
            if not self._make_room(self._pool.padded(room), spared):
                return Placing.FULL
        tokens.block, tokens.computed = block, 0
        return Placing.PLACED

    def _place_copy(self, tokens: SequenceTokens, room: int, donor: SequenceTokens, shared: int) -> Placing:
        placing = self._place_anew(tokens, room, donor)
        if placing is Placing.PLACED and tokens.block is not None and donor.block is not None:
            self._store.copy(donor.block.start, tokens.block.start, shared)
            tokens.computed = shared
        return placing

    def _make_room(self, size: int, spared: SequenceTokens | None) -> bool:
        """Close gaps, or drop the longest unused kept block; False when neither helps."""
        if self._pool.free >= size and (moves := self._pool.compact()):
            for move in moves:
                self._store.copy(move.source, move.block.start, move.block.size)
            return True
        for kept in self._kept:
            if kept is not spared:
                self._kept.remove(kept)
                self.drop(kept)
                return True
        return False


def common_prefix(one: list[int], other: list[int], limit: int) -> int:
    """Return the number of first tokens that two lists share, at most `limit`."""
    limit = min(limit, len(one), len(other))
    if one[:MIN_SHARED] != other[:MIN_SHARED]:
        return 0
    # Whole slices are compared at C's speed; a loop over tokens would not be.
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
