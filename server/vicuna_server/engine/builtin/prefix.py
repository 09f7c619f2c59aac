"""The memory of keys and values: rows of running sequences, and finished rows kept for those who go on from them.

The next turn of a conversation begins with the tokens of the last one, and requests to one model often share
their system text. Keys and values depend on nothing but the tokens up to their place, so a row that begins
with the same tokens is taken over or copied instead of computed: within a scope, and never across (`CacheScope`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from vicuna_server.engine.builtin.allocator import Block, KVCacheAllocator
from vicuna_server.engine.builtin.kv import KeyValueStore
from vicuna_server.engine.scope import EVERYBODY, CacheScope

__all__ = ["Placing", "PrefixCache", "Row", "common_prefix"]

MIN_SHARED = 16
"""Fewer tokens in common are not worth a copy, nor waiting for."""
MAX_KEPT = 256
"""Finished rows kept at most, so that looking through them stays cheap."""


@dataclass(slots=True, eq=False)
class Row:
    """Tokens, and where the keys and values of the first of them lie.

    Attributes:
        ids: All tokens.
        block: Their place; None: they have none at the moment.
        done: So many of the first tokens have their keys and values there.
        scope: Whose rows it may be made from, and who from it.
    """

    ids: list[int]
    block: Block | None = None
    done: int = field(default=0)
    scope: CacheScope = EVERYBODY


class Placing(Enum):
    """What came of the attempt to place a row."""

    PLACED = "placed"
    FULL = "full"
    """There is no room now."""
    COMING = "coming"
    """A running row is about to compute what this one needs too."""


class PrefixCache:
    """Places rows in the store and remembers finished ones, dropping the longest unused where room is needed.

    Args:
        store: The buffers.
        capacity: Tokens they have room for.
        reuse: Whether rows are shared at all; off for comparison in tests.
    """

    def __init__(self, store: KeyValueStore, capacity: int, *, reuse: bool = True) -> None:
        self._store = store
        self._pool = KVCacheAllocator(capacity)
        self._reuse = reuse
        self._kept: list[Row] = []  # the longest unused first

    @property
    def used(self) -> int:
        """Tokens in blocks, the padding of blocks and kept rows included."""
        return self._pool.used

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self._pool.capacity

    def place(self, row: Row, room: int, running: Iterable[Row], *, share: bool = True) -> Placing:
        """Give a row its block, with what is there already of its beginning.

        Args:
            row: One without a block; gets `block` and `done`.
            room: Tokens of room it gets at least.
            running: Rows in use, which may be copied from within their scope.
            share: False: all of its tokens are to be computed.
        """
        donor, shared, coming = self._donor(row, list(running)) if share and self._reuse else (None, 0, 0)
        if coming - shared >= MIN_SHARED:
            return Placing.COMING
        if donor is None or shared < MIN_SHARED:
            return self._place_anew(row, room, None)
        if donor not in self._kept:
            return self._place_copy(row, room, donor, shared)
        # To the end of the line: the last to be dropped.
        self._kept.remove(donor)
        if 2 * shared < donor.done:
            self._kept.append(donor)
            return self._place_copy(row, room, donor, shared)
        row.block, row.done = donor.block, shared
        if self.ensure(row, room):
            return Placing.PLACED
        self.drop(row)
        return Placing.FULL

    def ensure(self, row: Row, tokens: int) -> bool:
        """Make a row's block large enough, moving it if need be; False when there is no room."""
        block = row.block
        if block is None or block.size >= tokens:
            return block is not None
        while not self._pool.extend(block, tokens):
            # A quarter more than needed, so that a growing row moves only now and then.
            larger = self._pool.allocate(tokens + tokens // 4) or self._pool.allocate(tokens)
            if larger is not None:
                self._store.copy(block.start, larger.start, row.done)
                self._pool.release(block)
                row.block = larger
                return True
            if not self._make_room(self._pool.padded(tokens) - block.size, None):
                return False
        return True

    def keep(self, row: Row) -> None:
        """Keep a finished row for those of its scope who begin with the same tokens."""
        if row.block is None or row.done < MIN_SHARED or not (self._reuse and row.scope.kept):
            self.drop(row)
            return
        self._pool.trim(row.block, row.done)
        self._kept.append(Row(row.ids[: row.done], row.block, row.done, row.scope))
        row.block, row.done = None, 0
        if len(self._kept) > MAX_KEPT:
            self.drop(self._kept.pop(0))

    def drop(self, row: Row) -> None:
        """Give a row's block back; the row has then nothing done."""
        if row.block is not None:
            self._pool.release(row.block)
        row.block, row.done = None, 0

    def _donor(self, row: Row, running: list[Row]) -> tuple[Row | None, int, int]:
        """Return the row of its scope with most in common, how much is there, and how much there will be somewhere."""
        best, shared, coming = None, 0, 0
        limit = len(row.ids) - 1  # the last token must run, for its logits
        for other in (*running, *self._kept):
            if other is row or other.block is None or other.scope != row.scope:
                continue
            common = common_prefix(row.ids, other.ids, limit)
            coming = max(coming, common)
            if min(common, other.done) > shared:
                best, shared = other, min(common, other.done)
        return best, shared, coming

    def _place_anew(self, row: Row, room: int, spared: Row | None) -> Placing:
        while (block := self._pool.allocate(room)) is None:
            if not self._make_room(self._pool.padded(room), spared):
                return Placing.FULL
        row.block, row.done = block, 0
        return Placing.PLACED

    def _place_copy(self, row: Row, room: int, donor: Row, shared: int) -> Placing:
        placing = self._place_anew(row, room, donor)
        if placing is Placing.PLACED and row.block is not None and donor.block is not None:
            self._store.copy(donor.block.start, row.block.start, shared)
            row.done = shared
        return placing

    def _make_room(self, tokens: int, spared: Row | None) -> bool:
        """Close gaps, or drop the longest unused kept row; False when neither helps."""
        if self._pool.free >= tokens and (moves := self._pool.compact()):
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
