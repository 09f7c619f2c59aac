"""Sequences of one scope share keys and values, and see nothing of another scope's tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.amount import examples
from support.kv_cache import fill, store
from vicuna_server.engine.builtin.allocator import BLOCK_TOKENS
from vicuna_server.engine.builtin.prefix import Placing, PrefixCache, SequenceTokens
from vicuna_server.engine.scope import EVERYBODY, CacheScope

ALICE, BOB = CacheScope("alice"), CacheScope("bob")
SECRET = [*range(100, 140), 7, 3, 9, 1, 4, *range(200, 260)]


def place(cache: PrefixCache, one: SequenceTokens, *running: SequenceTokens) -> Placing:
    return cache.place(one, len(one.ids) + 8, list(running))


@pytest.mark.parametrize(("other", "cached"), [(ALICE, 99), (BOB, 0), (EVERYBODY, 0), (CacheScope("alice", False), 0)])
def test_a_finished_sequence_serves_its_scope_alone(other: CacheScope, cached: int) -> None:
    buffers = store(8 * BLOCK_TOKENS)
    cache = PrefixCache(buffers, 8 * BLOCK_TOKENS)
    first = SequenceTokens(SECRET[:100], scope=ALICE)
    assert place(cache, first) is Placing.PLACED
    fill(buffers, first)
    cache.keep(first)
    for _ in range(2):
        second = SequenceTokens(SECRET[:100], scope=other)
        assert place(cache, second) is Placing.PLACED
        assert second.computed == cached
        cache.keep(second) if second.computed else cache.drop(second)
    assert cache._kept[0].scope == ALICE


@pytest.mark.parametrize(("other", "placing"), [(ALICE, Placing.COMING), (BOB, Placing.PLACED)])
def test_a_sequence_does_not_wait_for_one_of_another_scope(other: CacheScope, placing: Placing) -> None:
    cache = PrefixCache(store(8 * BLOCK_TOKENS), 8 * BLOCK_TOKENS)
    first = SequenceTokens(SECRET[:], scope=ALICE)
    assert place(cache, first) is Placing.PLACED
    assert place(cache, SequenceTokens(SECRET[:], scope=other), first) is placing


def test_a_scope_that_is_not_kept_shares_while_it_runs_and_leaves_nothing() -> None:
    once, buffers = CacheScope("once", kept=False), store(8 * BLOCK_TOKENS)
    cache = PrefixCache(buffers, 8 * BLOCK_TOKENS)
    first, second = SequenceTokens(SECRET[:], scope=once), SequenceTokens(SECRET[:], scope=once)
    assert place(cache, first) is Placing.PLACED
    fill(buffers, first)
    assert place(cache, second, first) is Placing.PLACED
    assert second.computed == len(SECRET) - 1
    for one in (first, second):
        cache.keep(one)
    assert cache.used == 0


# who, begins with which of few prefixes, so many tokens; what ends: kept, dropped
STEPS = st.lists(
    st.tuples(st.sampled_from("pkd"), st.booleans(), st.integers(0, 9), st.integers(1, 150)), min_size=5, max_size=50
)


def observed(steps: list[tuple[str, bool, int, int]], victims_tokens: int) -> list[tuple[Placing, int]]:
    """Return what the attacker sees when his sequences are placed; the victim's tokens all lie so much higher."""
    buffers = store(10 * BLOCK_TOKENS)
    cache, members, seen = PrefixCache(buffers, 10 * BLOCK_TOKENS), list[SequenceTokens](), list[tuple[Placing, int]]()
    for action, is_victim, index, tokens in steps:
        if action == "p":
            offset = victims_tokens if is_victim else 0
            ids = [offset + 1 + index % 3] * min(tokens, 40) + [offset + token for token in range(tokens)]
            one = SequenceTokens(ids, scope=BOB if is_victim else ALICE)
            placing = cache.place(one, len(ids) + 8, members)
            if not is_victim:
                seen.append((placing, one.computed))
            if placing is Placing.PLACED:
                fill(buffers, one)
                members.append(one)
        elif members:
            one = members.pop(index % len(members))
            (cache.keep if action == "k" else cache.drop)(one)
    return seen


@pytest.mark.long
@given(STEPS)
@settings(max_examples=examples(300))
def test_what_the_others_asked_changes_nothing_that_one_can_see(steps: list[tuple[str, bool, int, int]]) -> None:
    assert observed(steps, 0) == observed(steps, 1000)
