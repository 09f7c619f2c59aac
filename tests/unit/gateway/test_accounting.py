"""Accounting of requests: what is counted, which limits are enforced, what the store gets."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.amount import examples
from support.usage import Clock, MemoryStore, Replica, key, no_store, seeded
from vicuna_server.errors import OverloadedError
from vicuna_server.gateway.accounting import Accounting
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.replica_usage import ReplicaUsage
from vicuna_server.gateway.usage_writer import Timing

AT_ONCE = Timing(write=0, quota=0, retry=0)


async def _opened(replica: Replica, **limits: Any) -> bool:
    """Whether a request of 100 tokens may begin; the store is asked as often as needed."""
    opening = asyncio.ensure_future(replica.accounting.open(key(**limits), "m", 100))
    while not opening.done():
        await asyncio.sleep(0)
        if replica.usage.waiting():
            await replica.writer.round()
    failure = opening.exception()
    if isinstance(failure, OverloadedError) and failure.code == "rate_limit_exceeded":
        return False
    opening.result().close()
    return True


def _in_memory(clock: Clock) -> Accounting:
    return Accounting(ReplicaUsage("a/1", clock, clock.now), Rates(clock))


async def test_without_a_limit_nothing_is_asked_and_all_is_counted() -> None:
    clock, store = Clock(), MemoryStore()
    replica = Replica(store, clock, "a")
    reservation = await replica.accounting.open(key(), "team/x", 10**9)
    reservation.record(10, 0)
    reservation.record(10, 4)
    reservation.record(10, 2)  # counts never decrease
    reservation.close()
    assert (store.reads, store.writes) == (0, 0)
    await replica.writer.round()
    (slot,) = store.objects.values()
    counts = {name: n for (_, _, name), n in slot.usage.items()}
    assert counts == {"requests": 1, "promptTokens": 10, "completionTokens": 4}
    assert not slot.claims


async def test_a_request_holds_what_it_may_use_until_it_ends() -> None:
    clock = Clock()
    accounting = _in_memory(clock)
    alice = key(tokens_per_minute=100)
    first = await accounting.open(alice, "m", 60)
    with pytest.raises(OverloadedError) as refused:
        await accounting.open(alice, "m", 50)
    assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
    first.record(10, 0)
    first.close()
    first.close()
    second = await accounting.open(alice, "m", 50)
    second.record(0, 90)
    second.close()
    with pytest.raises(OverloadedError, match="100 tokens a minute") as refused:
        await accounting.open(alice, "m", 41)
    assert refused.value.retry_after == 61
    clock.turn(61)
    (await accounting.open(alice, "m", 41)).close()


async def test_a_request_larger_than_the_limit_begins_alone() -> None:
    clock = Clock()
    accounting = _in_memory(clock)
    alice = key(tokens_per_minute=100)
    large = await accounting.open(alice, "m", 4000)
    with pytest.raises(OverloadedError):
        await accounting.open(alice, "m", 1)
    large.record(0, 4000)
    large.close()
    with pytest.raises(OverloadedError):
        await accounting.open(alice, "m", 1)
    clock.turn(61)
    (await accounting.open(alice, "m", 1)).close()


async def test_each_replica_grants_its_share_of_a_minute() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.replicas = 4
    accounting = Accounting(ReplicaUsage("a/1", clock, clock.now), rates)
    (await accounting.open(key(tokens_per_minute=100), "m", 25)).record(0, 25)
    with pytest.raises(OverloadedError):
        await accounting.open(key(tokens_per_minute=100), "m", 1)


async def test_in_memory_a_day_ends_at_midnight_in_utc() -> None:
    clock = Clock(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))
    accounting = _in_memory(clock)
    alice = key(tokens_per_day=100)
    reservation = await accounting.open(alice, "m", 100)
    reservation.record(0, 100)
    reservation.close()
    with pytest.raises(OverloadedError, match="100 tokens a day") as refused:
        await accounting.open(alice, "m", 1)
    assert refused.value.retry_after == 60
    clock.turn(60)
    (await accounting.open(alice, "m", 1)).close()


async def test_a_part_of_the_day_is_claimed_when_it_is_needed() -> None:
    clock, store = Clock(), MemoryStore()
    replica = Replica(store, clock, "a", replicas=2)
    assert await _opened(replica, tokens_per_day=1000)
    (slot,) = store.objects.values()
    assert slot.claims == {"alice": 250}
    reads = store.reads
    assert await _opened(replica, tokens_per_day=1000)
    assert store.reads == reads


async def test_what_is_used_up_is_refused_until_midnight_and_asks_the_store_no_more() -> None:
    clock, store = Clock(), MemoryStore()
    replica = Replica(store, clock, "a")
    alice = key(tokens_per_day=150)
    for _ in range(2):
        opening = asyncio.ensure_future(replica.accounting.open(alice, "m", 100))
        await asyncio.sleep(0)
        await replica.writer.round()
        reservation = await opening
        reservation.record(0, 90)
        reservation.close()
    reads = store.reads
    with pytest.raises(OverloadedError) as refused:
        await replica.accounting.open(alice, "m", 100)
    assert refused.value.retry_after == 12 * 3600
    assert store.reads == reads


async def test_idle_claims_are_given_back_and_others_take_them() -> None:
    clock, store = Clock(), MemoryStore()
    first, second = (Replica(store, clock, name, replicas=1) for name in "ab")
    assert await _opened(first, tokens_per_day=150)
    assert await _opened(first, tokens_per_day=150)
    assert store.objects["gw-2026-11-30-0"].claims == {"alice": 100}
    assert not await _opened_all(second, tokens_per_day=150)
    clock.turn(30)
    await first.writer.round()
    assert not store.objects["gw-2026-11-30-0"].claims
    assert await _opened_all(second, tokens_per_day=150)


async def _opened_all(replica: Replica, **limits: Any) -> bool:
    """Whether two requests of 100 tokens may be under way at once, of which the second would exceed the limit."""
    opening = asyncio.ensure_future(replica.accounting.open(key(**limits), "m", 100))
    while not opening.done():
        await asyncio.sleep(0)
        if replica.usage.waiting():
            await replica.writer.round()
    held = replica.usage.today().quotas["alice"].granted >= 100
    opening.result().close()
    return held


async def test_without_the_store_what_was_claimed_is_used_and_the_rest_is_a_503() -> None:
    clock, store = Clock(), MemoryStore()
    replica = Replica(store, clock, "a", replicas=2)
    assert await _opened(replica, tokens_per_day=1000)

    def away(what: str) -> None:
        raise OSError("no route")

    store.fault = away
    alice = key(tokens_per_day=1000)
    reservations = [await replica.accounting.open(alice, "m", 100) for _ in range(2)]
    opening = asyncio.ensure_future(replica.accounting.open(alice, "m", 100))
    await asyncio.sleep(0)
    await replica.writer.round()
    with pytest.raises(OverloadedError, match="the store of usage does not answer") as refused:
        await opening
    assert (refused.value.status, refused.value.code) == (503, "usage_unavailable")
    for reservation in reservations:
        reservation.close()
    assert await _opened(replica, tokens_per_day=1000)


async def test_where_there_is_no_store_each_replica_keeps_its_share(caplog: pytest.LogCaptureFixture) -> None:
    clock, store = Clock(), MemoryStore(fault=no_store)
    replica = Replica(store, clock, "a", replicas=2)
    assert await _opened(replica, tokens_per_day=400)
    for _ in range(2):
        (await replica.accounting.open(key(tokens_per_day=400), "m", 100)).record(0, 100)
    assert not await _opened(replica, tokens_per_day=400)
    await replica.writer.round()
    assert caplog.text.count("there is no store") == 1


async def test_counts_go_on_from_what_a_restart_finds() -> None:
    clock, store = Clock(), MemoryStore()
    for _ in range(3):
        replica = Replica(store, clock, "a")
        (await replica.accounting.open(key(), "m", 1)).record(0, 7)
        await replica.writer.round()
        await replica.writer.close()
    assert list(store.objects) == ["gw-2026-11-30-0"]
    assert store.total() == 21


async def test_nothing_is_written_while_nothing_changes() -> None:
    clock, store = Clock(), MemoryStore()
    replica = Replica(store, clock, "a")
    (await replica.accounting.open(key(), "m", 1)).record(0, 7)
    await replica.writer.round()
    assert replica.writer._delay() == float("inf")
    for _ in range(5):
        clock.turn(100)
        await replica.writer.round()
    assert store.writes == 1


async def test_claims_are_renewed_so_that_nobody_takes_the_slot() -> None:
    clock, store = Clock(), MemoryStore()
    replica = Replica(store, clock, "a")
    opening = asyncio.ensure_future(replica.accounting.open(key(tokens_per_day=1000), "m", 100))
    await asyncio.sleep(0)
    await replica.writer.round()
    reservation = await opening
    writes = store.writes
    for _ in range(12):
        assert 0 < replica.writer._delay() <= 10
        clock.turn(10)
        await replica.writer.round()
    assert store.writes == writes + 12
    assert replica.slot.renewed == clock.now()
    reservation.close()
    clock.turn(30)
    await replica.writer.round()
    assert replica.writer._delay() == float("inf")


async def test_at_midnight_the_old_days_slot_is_finished_and_a_new_one_begun() -> None:
    clock, store = Clock(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)), MemoryStore()
    replica = Replica(store, clock, "a")
    reservation = await replica.accounting.open(key(), "m", 50)
    reservation.record(10, 5)
    await replica.writer.round()
    reservation.record(10, 9)
    clock.turn(2)
    reservation.record(10, 12)
    await replica.writer.round()
    old, new = store.objects["gw-2026-11-30-0"], store.objects["gw-2026-12-01-0"]
    assert (old.usage["alice", "m", "completionTokens"], new.usage["alice", "m", "completionTokens"]) == (9, 3)
    assert (old.holder, new.holder) == ("", "a/1")
    assert store.removed == ["2026-10-30", "2026-10-31"]


async def test_a_write_that_fails_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    clock, store = Clock(), MemoryStore()
    replica = Replica(store, clock, "a")

    def away(what: str) -> None:
        raise TimeoutError

    store.fault = away
    (await replica.accounting.open(key(), "m", 1)).record(0, 7)
    await replica.writer.round()
    assert replica.writer._delay() == 5
    await replica.writer.round()
    assert caplog.text.count("cannot write usage: TimeoutError") == 1
    store.fault = lambda what: None
    await replica.writer.round()
    assert store.total() == 7


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3000))
@settings(max_examples=examples(60))
def test_a_day_is_passed_by_one_request_of_each_replica_at_most(seed: int, replicas: int, limit: int) -> None:
    stress = Stress(seed, replicas, limit)
    asyncio.run(stress.run(killing=True))
    assert stress.used <= limit + 100 * (replicas + stress.killed)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(100, 1000))
@settings(max_examples=examples(60))
def test_what_replicas_have_claimed_is_never_more_than_the_limit(seed: int, replicas: int, limit: int) -> None:
    stress = Stress(seed, replicas, limit, quick=True)
    asyncio.run(stress.run(killing=False))
    assert stress.most_granted <= limit


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=examples(60))
def test_every_token_is_in_the_store_once_whatever_becomes_of_writes_and_slots(seed: int, replicas: int) -> None:
    stress = Stress(seed, replicas, 10**9)
    asyncio.run(stress.run(killing=False))
    assert stress.store.total() == stress.used


class Stress:
    """Replicas that serve at the same time, while the store fails, loses answers and gives their slots to others.

    Args:
        seed: what happens depends on nothing else.
        replicas: at the same time.
        limit: of the day, of the key that all serve.
        quick: so little time passes that no slot is given to another.

    Attributes:
        used: tokens.
        killed: replicas that ended without a word.
        most_granted: tokens that replicas had at any moment, all together.
    """

    def __init__(self, seed: int, replicas: int, limit: int, *, quick: bool = False) -> None:
        self._quick = quick
        self._running: list[Replica] = []
        self._chance = seeded(seed + 1, 99)
        self._clock = Clock()
        self._replicas = replicas
        self._key = key(tokens_per_day=limit)
        self.store = MemoryStore(pause=seeded(seed), fault=self._unsteady, lost=lambda: self._unsteady(""))
        self.used = self.killed = self.most_granted = 0

    async def run(self, *, killing: bool) -> None:
        await asyncio.gather(*(self._lives(number, killing=killing) for number in range(self._replicas)))

    async def _lives(self, number: int, *, killing: bool) -> None:
        for life in range(2):
            replica = Replica(self.store, self._clock, f"{number}-{life}", self._replicas, AT_ONCE)
            self._running.append(replica)
            running = asyncio.create_task(replica.accounting.run())
            await asyncio.gather(*(self._requests(replica) for _ in range(3)))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            self._running.remove(replica)
            if killing and self._chance() < 50:
                self.killed += 1
                self._clock.turn(31)
                continue
            while replica.usage.former or not replica.usage.today().is_written:
                replica.usage.former.clear()
                await replica.writer.close()

    async def _requests(self, replica: Replica) -> None:
        for _ in range(6):
            with suppress(OverloadedError):
                most = 1 + self._chance()
                reservation = await replica.accounting.open(self._key, "m", most)
                tokens = min(most, 1 + self._chance())
                self.used += tokens
                reservation.record(0, tokens)
                self._look()
                await asyncio.sleep(0)
                reservation.close()
            if not self._quick:
                self._clock.turn(31 if self._chance() < 10 else 0.3)

    def _look(self) -> None:
        quotas = [replica.usage.today().quotas.get("alice") for replica in self._running]
        self.most_granted = max(self.most_granted, sum(quota.granted for quota in quotas if quota))

    def _unsteady(self, what: str) -> None:
        if self._chance() < 10:
            raise TimeoutError
