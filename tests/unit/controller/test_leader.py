"""The Lease on a clock of our own: `sleep` moves it, so nothing here waits."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from support.memory_kube import Body, MemoryKube
from vicuna_operator.errors import ForbiddenError, LeaseLostError, UnavailableError
from vicuna_operator.kube.leader import Lease, LeaseTiming
from vicuna_operator.planning.actions import Ref

REF = Ref("coordination.k8s.io/v1", "Lease", "op")
TIMING = LeaseTiming()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.hooks: list[Callable[[], None]] = []
        self.enough = asyncio.Event()  # set after twenty sleeps

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if len(self.slept) >= 20:
            self.enough.set()
        if self.hooks:
            self.hooks.pop(0)()
        await asyncio.sleep(0)


def lease(kube: MemoryKube, identity: str, clock: Clock) -> Lease:
    return Lease(kube, "ns", "op", identity, clock=clock, sleep=clock.sleep)


async def spec(kube: MemoryKube) -> Body:
    found = await kube.get(REF, "ns")
    assert found is not None
    found_spec: Body = found["spec"]
    return found_spec


async def test_takes_a_free_lease_at_once() -> None:
    kube, clock = MemoryKube(), Clock()
    await lease(kube, "a", clock).acquire()
    assert (await spec(kube))["holderIdentity"] == "a"
    assert clock.slept == []


async def test_takes_over_from_a_killed_leader_within_fifteen_seconds() -> None:
    kube, clock = MemoryKube(), Clock()
    await lease(kube, "a", clock).acquire()
    begun = clock.now
    await lease(kube, "b", clock).acquire()
    assert TIMING.duration <= clock.now - begun <= 15
    after = await spec(kube)
    assert after["holderIdentity"] == "b"
    assert after["leaseTransitions"] == 1


async def test_a_renewing_leader_keeps_it_whatever_its_clock_says() -> None:
    kube, clock = MemoryKube(), Clock()
    await lease(kube, "a", clock).acquire()
    candidate = asyncio.create_task(lease(kube, "b", clock).acquire())

    def renewed(number: int) -> Callable[[], None]:
        def renew() -> None:
            found = kube.find("Lease", "op", "ns")
            assert found is not None
            # a clock years behind: only that the value changes counts
            found["spec"]["renewTime"] = f"1999-01-01T00:00:{number:02d}.000000Z"
            kube.put(found, "ns")

        return renew

    clock.hooks = [renewed(number) for number in range(20)]
    async with asyncio.timeout(5):
        await clock.enough.wait()
    assert not candidate.done()
    assert (await spec(kube))["holderIdentity"] == "a"
    candidate.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await candidate


async def test_a_released_lease_is_taken_at_the_next_look() -> None:
    kube, clock = MemoryKube(), Clock()
    leader = lease(kube, "a", clock)
    await leader.acquire()
    releases: list[asyncio.Task[None]] = []
    clock.hooks = [lambda: releases.append(asyncio.ensure_future(leader.release()))]
    begun = clock.now
    await lease(kube, "b", clock).acquire()
    assert clock.now - begun <= 2 * TIMING.poll
    assert (await spec(kube))["holderIdentity"] == "b"


async def test_release_survives_a_renewal_it_did_not_hear_of() -> None:
    kube, clock = MemoryKube(), Clock()
    leader = lease(kube, "a", clock)
    await leader.acquire()
    await kube.patch(REF, "ns", {"spec": {"renewTime": "2030-01-01T00:00:00.000000Z"}})
    await leader.release()
    assert (await spec(kube))["holderIdentity"] == ""


async def test_release_leaves_another_holder_alone() -> None:
    kube, clock = MemoryKube(), Clock()
    leader = lease(kube, "a", clock)
    await leader.acquire()
    await kube.patch(REF, "ns", {"spec": {"holderIdentity": "b"}})
    await leader.release()
    assert (await spec(kube))["holderIdentity"] == "b"


async def test_the_same_pod_takes_its_own_lease_back_at_once() -> None:
    kube, clock = MemoryKube(), Clock()
    await lease(kube, "pod-1", clock).acquire()
    await lease(kube, "pod-1", clock).acquire()
    assert clock.slept == []
    assert (await spec(kube))["leaseTransitions"] == 0


async def test_stops_leading_before_another_may_begin_when_the_api_is_away() -> None:
    kube, clock = MemoryKube(), Clock()
    leader = lease(kube, "a", clock)
    await leader.acquire()
    begun = clock.now
    kube.fail(UnavailableError("down"), times=1000)
    with pytest.raises(LeaseLostError, match="down"):
        await leader.hold()
    assert clock.now - begun < TIMING.duration


async def test_one_failed_renewal_costs_nothing() -> None:
    kube, clock = MemoryKube(), Clock()
    leader = lease(kube, "a", clock)
    await leader.acquire()
    kube.fail(UnavailableError("down"), verb="patch", times=1)
    holding = asyncio.create_task(leader.hold())
    async with asyncio.timeout(5):
        await clock.enough.wait()
    assert not holding.done()
    holding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await holding


@pytest.mark.parametrize("holder", ["b", None])
async def test_stops_leading_when_the_lease_is_anothers_or_deleted(holder: str | None) -> None:
    kube, clock = MemoryKube(), Clock()
    leader = lease(kube, "a", clock)
    await leader.acquire()
    if holder is None:
        kube.remove("Lease", "op", "ns")
    else:
        await kube.patch(REF, "ns", {"spec": {"holderIdentity": holder}})
    with pytest.raises(LeaseLostError, match="taken by b" if holder else "deleted"):
        await leader.hold()


async def test_waits_through_an_outage_but_not_through_missing_rights() -> None:
    kube, clock = MemoryKube(), Clock()
    kube.fail(UnavailableError("down"), times=3)
    await lease(kube, "a", clock).acquire()
    assert len(clock.slept) == 3
    kube.fail(ForbiddenError("may not get leases"))
    with pytest.raises(ForbiddenError):
        await lease(kube, "b", clock).acquire()
