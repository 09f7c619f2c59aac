"""Writes usage to the store when it is due, and asks for quotas that requests wait for."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from vicuna_server.gateway.day_usage import DayUsage
from vicuna_server.gateway.quota import KeyUsage, Quota
from vicuna_server.gateway.replica_usage import ReplicaUsage, date_of
from vicuna_server.gateway.slot import size_of
from vicuna_server.gateway.usage_store import ConflictError, NoStoreError, Store
from vicuna_server.gateway.writer_timing import Timing

__all__ = ["KEPT_DAYS", "Timing", "UsageWriter"]

logger = logging.getLogger(__name__)

KEPT_DAYS = 32
_BYTES_A_SECOND = 32 * 2**10
"""A large object is written less often, so that the API server need not store more bytes than this."""
_TRIES = 5
_CLOSE_SECONDS = 5.0


class UsageWriter:
    """The only task that reads and writes the store.

    Args:
        usage: what is counted.
        store: where it is kept.
        replicas: how many gateways there are.
        ended: prefix of the names of holders that have certainly ended: earlier processes of this pod.

    Attributes:
        absent: whether there is no store; None: not known yet.
    """

    def __init__(
        self,
        usage: ReplicaUsage,
        store: Store,
        replicas: Callable[[], int],
        ended: str = "",
        timing: Timing | None = None,
    ) -> None:
        self._usage = usage
        self._store = store
        self._replicas = replicas
        self._ended = ended
        self._timing = timing or Timing()
        self._wake = asyncio.Event()
        self._rounds: asyncio.Future[None] | None = None
        self._written = self._asked_at = self._not_before = float("-inf")
        self._interval = self._timing.write
        self._cleared = ""
        self._failed = False
        self.absent: bool | None = None
        usage.on_change = self._wake.set

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            while (delay := self._delay()) > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if delay == float("inf") else delay):
                        await self._wake.wait()
            await self.round()

    async def more(self, key_usage: KeyUsage, tokens: int) -> None:
        """Wait until the store has been asked for a larger quota of a key.

        Raises:
            NoStoreError: there is no store.
            Exception: no response.
        """
        if self._rounds is None:
            self._rounds = asyncio.get_running_loop().create_future()
        key_usage.waiting += tokens
        self._wake.set()
        try:
            await asyncio.shield(self._rounds)
        finally:
            key_usage.waiting -= tokens

    async def round(self) -> None:
        """Write what is due and ask for quotas; those who wait in `more` get the result."""
        if self._usage.waiting():
            self._asked_at = self._usage.clock()
        failure = await self._guarded()
        rounds, self._rounds = self._rounds, None
        if rounds is not None:
            if failure is None:
                rounds.set_result(None)
            else:
                rounds.set_exception(failure)
                rounds.exception()  # marks it as retrieved: perhaps nobody waits any more

    async def close(self) -> None:
        """Write what is left, and release the slot and all unspent tokens."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                self._usage.former.append(self._usage.today())
                await self._end_former()
        except NoStoreError:
            pass  # it was logged before
        except Exception as error:  # noqa: BLE001  # the process ends all the same
            logger.warning("the last counts of usage could not be written and are lost: %s", _said(error))
        finally:
            await self._store.close()

    async def _guarded(self) -> Exception | None:
        now = self._usage.clock()
        try:
            await self._end_former()
            await self._keep(self._try, self._usage.today())
        except NoStoreError as error:
            if not self.absent:
                logger.warning("limits of a day are counted in memory, since there is no store of usage: %s", error)
            self.absent, self._not_before = True, now + self._timing.absent
            return error
        except Exception as error:  # noqa: BLE001  # whatever failed, only another try helps
            if not self._failed:
                logger.warning("cannot write usage: %s; trying again", _said(error))
            self._failed, self._not_before = True, now + self._timing.retry
            return error
        if self._failed:
            logger.info("usage is written again")
        self.absent, self._failed, self._not_before = False, False, float("-inf")
        return None

    def _delay(self) -> float:
        """Return the seconds until something is to be done."""
        now, timing, day = self._usage.clock(), self._timing, self._usage.today()
        due = [self._written + self._interval] if not day.is_written else []
        due += [now] if self._usage.former else []
        for _, quota in day.unspent():
            due.append(self._written + timing.renew)
            if quota.key_usage.is_idle:
                due.append(quota.key_usage.touched + timing.idle)
        at = max(min(due, default=float("inf")), self._not_before)
        if self._usage.waiting():
            at = min(at, self._asked_at + timing.quota)
        return at - now

    async def _keep(self, act: Callable[[DayUsage], Awaitable[None]], day: DayUsage) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(ConflictError):
                await act(day)
                return
        raise ConflictError(f"others wrote to each of {_TRIES} slots that were tried")

    async def _try(self, day: DayUsage) -> None:
        self._give_back(day, self._usage.clock())
        asking = await self._ask(day)
        if day.slot is None and not day.is_written:
            await self._look(day)
        if asking or not day.is_written or self._is_to_renew(day):
            await self._write(day)
        if asking:
            await self._grant(day, asking)

    async def _ask(self, day: DayUsage) -> list[Quota]:
        """Return the quotas that need more tokens and can get some."""
        wanting = [(key, quota) for key, quota in day.quotas.items() if quota.key_usage.waiting]
        if wanting:
            await self._look(day)
        return [quota for key, quota in wanting if quota.ask(day.spent(key), self._replicas())]

    def _is_to_renew(self, day: DayUsage) -> bool:
        return any(day.unspent()) and self._usage.clock() >= self._written + self._timing.renew

    def _give_back(self, day: DayUsage, now: float) -> None:
        for key, quota in list(day.unspent()):
            if quota.key_usage.is_idle and now >= quota.key_usage.touched + self._timing.idle:
                quota.give_back(day.spent(key))
                day.dirty = True

    async def _look(self, day: DayUsage) -> None:
        slots = await self._store.slots(day.date)
        if day.slot is None:
            day.take(slots, self._store.fresh(day.date), self._usage.now(), self._ended)
        day.see(slots, self._usage.clock())

    async def _grant(self, day: DayUsage, asking: list[Quota]) -> None:
        asked = sum(quota.asked for quota in asking)
        day.see(await self._store.slots(day.date), self._usage.clock())
        for quota in asking:
            quota.grant()
        if sum(quota.granted for quota in asking) < asked:
            day.dirty = True

    async def _write(self, day: DayUsage, *, release: bool = False) -> None:
        sent = day.filled(self._usage.now(), release=release)
        try:
            response = await self._store.write(sent)
        except ConflictError:
            day.lose()
            raise
        day.wrote(sent, response)
        self._ended = ""
        self._written = self._usage.clock()
        size = size_of({(key, model) for key, model, _ in sent.usage})
        self._interval = max(self._timing.write, size / _BYTES_A_SECOND)
        await self._clear(day.date)

    async def _clear(self, day: str) -> None:
        """Once a day, remove usage that is too old."""
        if self._cleared != day:
            self._cleared = day
            try:
                await self._store.remove(date_of(self._usage.now() - timedelta(days=KEPT_DAYS - 1)))
            except Exception as error:  # noqa: BLE001  # the next day tries again
                logger.warning("cannot remove old usage: %s; the next day tries again", _said(error))

    async def _end_former(self) -> None:
        while self._usage.former:
            day = self._usage.former[0]
            await self._keep(self._end, day)
            if day in self._usage.former:
                self._usage.former.remove(day)

    async def _end(self, day: DayUsage) -> None:
        if day.slot is None and not day.is_written:
            await self._look(day)
        if day.is_held or not day.is_written:
            await self._write(day, release=True)


def _said(error: Exception) -> str:
    return f"{str(error) or type(error).__name__:.300}"
