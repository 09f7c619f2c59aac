"""What a store of a gateway's counts must be able to do, at whatever API server it is."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from support.usage import Clock, Replica, key
from vicuna_server.gateway.slot import Slot, bounded, bounded_claims
from vicuna_server.gateway.usage_store import ConflictError, Store

Stores = Callable[[], Store]
"""Returns the same store with connections of its own, as each replica has."""
DAY = "2026-11-30"


async def _count(replica: Replica, tokens: int) -> None:
    reservation = await replica.accounting.open(key(), "team/x", tokens)
    reservation.record(0, tokens)
    reservation.close()


async def completion_tokens(store: Store) -> int:
    """Sum what was counted on the day of these scenarios."""
    return sum(n for slot in await store.slots(DAY) for (_, _, name), n in slot.usage.items()
               if name == "completionTokens")  # fmt: skip


async def replicas_write_at_the_same_time(stores: Stores) -> None:
    """Each has a slot of its own from the first write on; nothing is lost."""
    clock = Clock()
    replicas = [Replica(stores(), clock, name, 3) for name in "abc"]
    for _ in range(5):
        for replica in replicas:
            await _count(replica, 7)
        await asyncio.gather(*(replica.writer.round() for replica in replicas))
    assert sorted(slot.number for slot in await stores().slots(DAY)) == [0, 1, 2]
    assert await completion_tokens(stores()) == 5 * 3 * 7
    await asyncio.gather(*(replica.writer.close() for replica in replicas))
    assert [slot.holder for slot in await stores().slots(DAY)] == [""] * 3


async def a_restart_goes_on_where_it_was(stores: Stores) -> None:
    """Whether it ended well or was killed, its next process finds the slot."""
    clock = Clock()
    for life in range(4):
        replica = Replica(stores(), clock, "a")
        await _count(replica, 7)
        await replica.writer.round()
        if life % 2:
            await replica.writer.close()
    (slot,) = await stores().slots(DAY)
    assert slot.usage["alice", "team/x", "completionTokens"] == 28


async def a_slot_is_taken_over_and_its_holder_moves_on(stores: Stores) -> None:
    """A replica that was silent for long meets another in its slot; both go on, and no token counts twice."""
    clock = Clock()
    first, second = Replica(stores(), clock, "a", 2), Replica(stores(), clock, "b", 2)
    await _count(first, 7)
    await first.writer.round()
    clock.turn(31)
    await _count(second, 5)
    await second.writer.round()
    assert first.slot.name == second.slot.name
    await _count(first, 3)
    await first.writer.round()
    assert first.slot.name != second.slot.name
    assert await completion_tokens(stores()) == 15
    (taken,) = [slot for slot in await stores().slots(DAY) if slot.holder == "b/1"]
    assert taken.former == (("a/1", 1),)


async def claims_made_at_the_same_time_never_exceed_the_limit(stores: Stores) -> None:
    """Five replicas need together more than there is."""
    clock, limit = Clock(), 250
    replicas = [Replica(stores(), clock, name, 5) for name in "abcde"]
    opened: list[int] = []

    async def use(replica: Replica) -> None:
        running = asyncio.create_task(replica.accounting.run())
        reservation = await replica.accounting.open(key(tokens_per_day=limit), "team/x", 100)
        reservation.record(0, 100)
        opened.append(100)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    await asyncio.gather(*map(use, replicas), return_exceptions=True)
    granted = [quota.granted for replica in replicas for quota in replica.usage.today().quotas.values()]
    assert 200 <= sum(granted) <= limit
    assert len(opened) in (2, 3)


async def only_what_is_known_is_written_over(stores: Stores) -> None:
    """A write states the version it knows; one that was deleted is not made again unnoticed."""
    store = stores()
    slot = store.fresh(DAY)
    first = await store.write(slot)
    second = await store.write(replace(first, write=1))

    async def is_refused(stale: Slot) -> bool:
        try:
            await store.write(replace(stale, write=2))
        except ConflictError:
            return True
        return False

    assert await is_refused(slot)
    assert await is_refused(first)
    await store.remove("2027-01-01")
    assert await is_refused(second)


async def long_ago_is_removed(stores: Stores) -> None:
    """33 days ago is too long ago, 31 is not."""
    store, clock = stores(), Clock()
    for day in ("2026-10-29", "2026-10-30", "2026-11-29"):
        await store.write(store.fresh(day))
    replica = Replica(stores(), clock, "a")
    await _count(replica, 7)
    await replica.writer.round()
    left = [day for day in ("2026-10-29", "2026-10-30", "2026-11-29", DAY) if await store.slots(day)]
    assert left == ["2026-10-30", "2026-11-29", DAY]


async def a_full_object_is_taken(stores: Stores) -> None:
    """As large as it may get."""
    store = stores()
    usage = {(f"{'k' * 60}-{n}", f"team-{n % 7}/model", name): 2**40 for n in range(4000) for name in
             ("requests", "promptTokens", "completionTokens")}  # fmt: skip
    full = replace(
        store.fresh(DAY),
        holder="a/1",
        usage=bounded(Counter(), Counter(usage)),
        claims=bounded_claims({f"{'k' * 253}{n}": 2**40 for n in range(5000)}),
    )
    stored = await store.write(full)
    assert stored.usage == full.usage
    assert stored.claims == full.claims


SCENARIOS: Sequence[Callable[[Stores], Awaitable[None]]] = [
    replicas_write_at_the_same_time,
    a_restart_goes_on_where_it_was,
    a_slot_is_taken_over_and_its_holder_moves_on,
    claims_made_at_the_same_time_never_exceed_the_limit,
    only_what_is_known_is_written_over,
    long_ago_is_removed,
    a_full_object_is_taken,
]
