"""Regions of the cache: never overlapping, never lost, and no token of anybody's overwritten."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.amount import examples
from support.kv_cache import fill, store
from vicuna_server.engine.builtin.allocator import BLOCK_TOKENS, Block, KVCacheAllocator
from vicuna_server.engine.builtin.kv import KeyValueStore
from vicuna_server.engine.builtin.prefix import Placing, PrefixCache, SequenceTokens, common_prefix

ACTIONS = st.lists(st.tuples(st.sampled_from("aefct"), st.integers(0, 30), st.integers(1, 400)), max_size=60)


@given(ACTIONS)
def test_regions_stay_apart_whatever_happens(actions: list[tuple[str, int, int]]) -> None:
    pool, blocks = KVCacheAllocator(20 * BLOCK_TOKENS + 7), list[Block]()
    for action, index, tokens in actions:
        block = blocks[index % len(blocks)] if blocks else None
        if action == "a" and (new := pool.allocate(tokens)):
            assert new.size >= tokens
            blocks.append(new)
        elif action == "e" and block and pool.extend(block, tokens):
            assert block.size >= tokens
        elif action == "t" and block:
            pool.trim(block, min(tokens, block.size))
        elif action == "f" and block:
            blocks.remove(block)
            pool.release(block)
        elif action == "c":
            free = pool.free
            pool.compact()
            assert not free or pool.allocate(free) is not None  # it is one gap now
            break
        ordered = sorted(blocks)
        assert all(one.start + one.size <= other.start for one, other in pairwise(ordered))
        assert not ordered or ordered[-1].start + ordered[-1].size <= pool.capacity
        assert pool.used == sum(block.size for block in blocks)


def held(store: KeyValueStore, one: SequenceTokens) -> list[float]:
    assert one.block is not None
    values = [buffer[one.block.start :][: one.computed, 0, 0].tolist() for buffer in (*store.keys, *store.values)]
    assert values[0] == values[1]
    return values[0]


@given(st.lists(st.tuples(st.sampled_from("pgkd"), st.integers(0, 9), st.integers(1, 150)), max_size=60))
@settings(max_examples=examples(200))
def test_every_sequence_keeps_its_own_keys_and_values(actions: list[tuple[str, int, int]]) -> None:
    buffers = store(10 * BLOCK_TOKENS)
    cache, members = PrefixCache(buffers, 10 * BLOCK_TOKENS), list[SequenceTokens]()
    for action, index, tokens in actions:
        one = members[index % len(members)] if members else None
        if action == "p":
            # Few different beginnings, so that sequences share them.
            new = SequenceTokens([index % 3] * min(tokens, 40) + list(range(tokens)))
            if cache.place(new, len(new.ids) + 8, members) is Placing.PLACED:
                assert new.computed < len(new.ids)
                assert held(buffers, new) == new.ids[: new.computed]
                fill(buffers, new)
                members.append(new)
        elif one and action == "g":
            if cache.ensure(one, len(one.ids) + tokens):
                one.ids.extend([7] * tokens)
                fill(buffers, one)
        elif one:
            members.remove(one)
            (cache.keep if action == "k" else cache.drop)(one)
        for one in members:
            assert held(buffers, one) == one.ids
    assert cache.used <= cache.capacity


def test_moving_down_over_oneself() -> None:
    buffers = store(200)
    buffers.keys[0][50:150, 0, 0] = torch.arange(100.0)
    buffers.copy(50, 20, 100)
    assert buffers.keys[0][20:120, 0, 0].tolist() == list(range(100))


def test_the_longest_unused_blocks_go_first() -> None:
    cache, asked = PrefixCache(store(4 * BLOCK_TOKENS), 4 * BLOCK_TOKENS), {}
    for first in (1, 2, 3, 1, 4, 5):  # 1 is used again before the cache is full
        one = SequenceTokens([first] * BLOCK_TOKENS)
        assert cache.place(one, BLOCK_TOKENS, []) is Placing.PLACED
        asked[first] = one.computed
        one.computed = BLOCK_TOKENS
        cache.keep(one)
    assert asked[1] == BLOCK_TOKENS - 1
    for first, there in ((1, True), (2, False)):
        one = SequenceTokens([first] * BLOCK_TOKENS)
        cache.place(one, BLOCK_TOKENS, [])
        assert bool(one.computed) is there
        cache.drop(one)


def test_a_sequence_waits_for_one_that_computes_its_beginning() -> None:
    cache = PrefixCache(store(8 * BLOCK_TOKENS), 8 * BLOCK_TOKENS)
    first, second = SequenceTokens(list(range(100))), SequenceTokens([*range(90), 7, 7])
    assert cache.place(first, 100, []) is Placing.PLACED
    assert cache.place(second, 100, [first]) is Placing.COMING
    first.computed = 95
    assert cache.place(second, 100, [first]) is Placing.PLACED
    assert second.computed == 90


def test_no_room() -> None:
    cache = PrefixCache(store(2 * BLOCK_TOKENS), 2 * BLOCK_TOKENS)
    one = SequenceTokens([1] * BLOCK_TOKENS)
    assert cache.place(one, 2 * BLOCK_TOKENS, []) is Placing.PLACED
    assert cache.place(SequenceTokens([2]), 1, [one]) is Placing.FULL
    assert not cache.ensure(one, 2 * BLOCK_TOKENS + 1)


@pytest.mark.parametrize(
    ("one", "other", "limit", "expected"),
    [
        ([*range(50)], [*range(50)], 100, 50),
        ([*range(50)], [*range(50)], 30, 30),
        ([*range(50), 1], [*range(50), 2], 100, 50),
        ([0, *range(50)], [1, *range(50)], 100, 0),
        ([*range(50)], [*range(30)], 100, 30),
        ([], [1], 100, 0),
    ],
)
def test_common_prefixes(one: list[int], other: list[int], limit: int, expected: Any) -> None:
    assert common_prefix(one, other, limit) == expected
