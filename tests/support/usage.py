"""A store of slots in memory, and the accounting that writes to it, on a clock that tests set."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vicuna_server.gateway.accounting import Accounting
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.replica_usage import ReplicaUsage
from vicuna_server.gateway.slot import Slot
from vicuna_server.gateway.usage_store import ConflictError, NoStoreError, Store
from vicuna_server.gateway.usage_writer import Timing, UsageWriter


def key(name: str = "alice", **limits: Any) -> Key:
    """Return a key."""
    return Key(name=name, sha256="0" * 64, **limits)


class Clock:
    """Seconds, and the moment they come to."""

    def __init__(self, start: datetime = datetime(2026, 11, 30, 12, tzinfo=UTC)) -> None:
        self.seconds = 1000.0
        self._start = start

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds - 1000.0)

    def turn(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class MemoryStore:
    """Keeps slots as an API server does; what is asked of it may come to the others later, fail, or have no answer.

    Attributes:
        fault: called with what is about to be done; what it raises is raised, before it is done.
        lost: what it raises is raised behind a write that was done.
        writes: how many came through.
        pause: called before every step.
    """

    objects: dict[str, Slot] = field(default_factory=dict)
    fault: Callable[[str], None] = lambda what: None
    lost: Callable[[], None] = lambda: None
    writes: int = 0
    reads: int = 0
    removed: list[str] = field(default_factory=list)
    pause: Callable[[], int] = lambda: 0
    version: int = 0

    def fresh(self, day: str) -> Slot:
        return Slot.fresh("sys", "gw", day)

    async def slots(self, day: str) -> list[Slot]:
        await self._turns("read")
        self.reads += 1
        found = [slot for slot in self.objects.values() if slot.day == day]
        await self._turns("")
        return found

    async def write(self, slot: Slot) -> Slot:
        await self._turns("write")
        known = self.objects.get(slot.name)
        expected = None if known is None else known.metadata["resourceVersion"]
        if slot.metadata.get("resourceVersion") != expected:
            raise ConflictError(slot.name)
        self.writes += 1
        self.version += 1
        stored = Slot.of(replace(slot, metadata={**slot.metadata, "resourceVersion": str(self.version)}).body())
        self.objects[slot.name] = stored
        self.lost()
        await self._turns("")
        return stored

    async def remove(self, before: str) -> None:
        self.removed.append(before)

    async def close(self) -> None:
        pass

    async def _turns(self, what: str) -> None:
        for _ in range(self.pause()):
            await asyncio.sleep(0)
        if what:
            self.fault(what)

    def total(self, name: str = "alice", field: str = "completionTokens") -> int:
        """Sum what was counted of a key."""
        return sum(n for slot in self.objects.values() for (key, _, what), n in slot.usage.items()
                   if (key, what) == (name, field))  # fmt: skip


class Replica:
    """The accounting of one gateway replica."""

    def __init__(self, store: Store, clock: Clock, name: str, replicas: int = 1, timing: Timing | None = None):
        self.rates = Rates(clock)
        self.rates.replicas = replicas
        self.usage = ReplicaUsage(f"{name}/1", clock, clock.now)
        self.writer = UsageWriter(self.usage, store, lambda: replicas, f"{name}/", timing)
        self.accounting = Accounting(self.usage, self.rates, self.writer)

    @property
    def slot(self) -> Slot:
        """Where it counts."""
        found = self.usage.today().slot
        assert found is not None
        return found


def no_store(what: str) -> None:
    """Be a store that does not exist."""
    raise NoStoreError("404")


def seeded(seed: int, most: int = 3) -> Callable[[], int]:
    """Return a source of pauses."""
    chance = random.Random(seed)
    return lambda: chance.randint(0, most)
