"""Writes the ledger into the store when it is due, and claims parts of days for those who wait for them."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from vicuna_server.gateway.claims import Account, Claim
from vicuna_server.gateway.day_book import DayBook
from vicuna_server.gateway.ledger import Ledger, day_of
from vicuna_server.gateway.slot import size_of
from vicuna_server.gateway.usage_store import ConflictError, NoStoreError, Store

__all__ = ["KEPT_DAYS", "Bookkeeper", "Timing"]

logger = logging.getLogger(__name__)

KEPT_DAYS = 32
_BYTES_A_SECOND = 32 * 2**10
"""A large object is written less often, so that the API server's store need not take more than this."""
_TRIES = 5
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    Attributes:
        write: between two writes of what was counted.
        claim: between two rounds of claims.
        renew: between two writes while unspent claims are held.
        idle: after which what nobody uses of a claim is given back.
        retry: after a failure.
        absent: until the next look where there is no store.
    """

    write: float = 5.0
    claim: float = 1.0
    renew: float = 10.0
    idle: float = 30.0
    retry: float = 5.0
    absent: float = 60.0


class Bookkeeper:
    """The one task that speaks to the store.

    Args:
        ledger: what is counted.
        store: where it is kept.
        replicas: how many gateways there are.
        ended: how the names of holders begin that have ended for sure: earlier processes of this pod.

    Attributes:
        absent: there is no store; None: not known yet.
    """

    def __init__(
        self, ledger: Ledger, store: Store, replicas: Callable[[], int], ended: str = "", timing: Timing | None = None
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._replicas = replicas
        self._ended = ended
        self._timing = timing or Timing()
        self._wake = asyncio.Event()
        self._rounds: asyncio.Future[None] | None = None
        self._written = self._claimed = self._not_before = float("-inf")
        self._interval = self._timing.write
        self._cleared = ""
        self._failed = False
        self.absent: bool | None = None
        ledger.changed = self._wake.set

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            while (delay := self._delay()) > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if delay == float("inf") else delay):
                        await self._wake.wait()
            await self.round()

    async def more(self, account: Account, tokens: int) -> None:
        """Wait until the store has been asked for a larger part of a key's day.

        Raises:
            NoStoreError: there is no store.
            Exception: no answer.
        """
        if self._rounds is None:
            self._rounds = asyncio.get_running_loop().create_future()
        account.waiting += tokens
        self._wake.set()
        try:
            await asyncio.shield(self._rounds)
        finally:
            account.waiting -= tokens

    async def round(self) -> None:
        """Write and claim what is due; whoever waits learns how it went."""
        if self._ledger.waiting():
            self._claimed = self._ledger.clock()
        failure = await self._guarded()
        rounds, self._rounds = self._rounds, None
        if rounds is not None:
            if failure is None:
                rounds.set_result(None)
            else:
                rounds.set_exception(failure)
                rounds.exception()  # perhaps nobody waits any more

    async def close(self) -> None:
        """Write what is left, and let go of the slot and of all that is not spent."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                self._ledger.former.append(self._ledger.today())
                await self._end_former()
        except NoStoreError:
            pass  # as was said before
        except Exception as error:  # noqa: BLE001  # the process ends all the same
            logger.warning("what was counted last is not written: %s", _said(error))
        finally:
            await self._store.close()

    async def _guarded(self) -> Exception | None:
        now = self._ledger.clock()
        try:
            await self._end_former()
            await self._keep(self._try, self._ledger.today())
        except NoStoreError as error:
            if not self.absent:
                logger.warning("there is no store for what is counted; limits of a day are kept in memory: %s", error)
            self.absent, self._not_before = True, now + self._timing.absent
            return error
        except Exception as error:  # noqa: BLE001  # whatever it is, only another try helps
            if not self._failed:
                logger.warning("cannot write what was counted: %s; trying again", _said(error))
            self._failed, self._not_before = True, now + self._timing.retry
            return error
        if self._failed:
            logger.info("what was counted is written again")
        self.absent, self._failed, self._not_before = False, False, float("-inf")
        return None

    def _delay(self) -> float:
        """Return the seconds until something is to be done."""
        now, timing, book = self._ledger.clock(), self._timing, self._ledger.today()
        due = [self._written + self._interval] if not book.is_written else []
        due += [now] if self._ledger.former else []
        for _, claim in book.unspent():
            due.append(self._written + timing.renew)
            if claim.account.is_idle:
                due.append(claim.account.touched + timing.idle)
        at = max(min(due, default=float("inf")), self._not_before)
        if self._ledger.waiting():
            at = min(at, self._claimed + timing.claim)
        return at - now

    async def _keep(self, act: Callable[[DayBook], Awaitable[None]], book: DayBook) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(ConflictError):
                await act(book)
                return
        raise ConflictError("others write to each slot that is tried")

    async def _try(self, book: DayBook) -> None:
        self._give_back(book, self._ledger.clock())
        asking = await self._ask(book)
        if book.slot is None and not book.is_written:
            await self._look(book)
        if asking or not book.is_written or self._is_to_renew(book):
            await self._write(book)
        if asking:
            await self._grant(book, asking)

    async def _ask(self, book: DayBook) -> list[Claim]:
        """Return the claims for which more is needed, and is to be had."""
        wanting = [(key, claim) for key, claim in book.claims.items() if claim.account.waiting]
        if wanting:
            await self._look(book)
        return [claim for key, claim in wanting if claim.ask(book.spent(key), self._replicas())]

    def _is_to_renew(self, book: DayBook) -> bool:
        return any(book.unspent()) and self._ledger.clock() >= self._written + self._timing.renew

    def _give_back(self, book: DayBook, now: float) -> None:
        for key, claim in list(book.unspent()):
            if claim.account.is_idle and now >= claim.account.touched + self._timing.idle:
                claim.give_back(book.spent(key))
                book.dirty = True

    async def _look(self, book: DayBook) -> None:
        slots = await self._store.slots(book.day)
        if book.slot is None:
            book.take(slots, self._store.fresh(book.day), self._ledger.now(), self._ended)
        book.see(slots, self._ledger.clock())

    async def _grant(self, book: DayBook, asking: list[Claim]) -> None:
        asked = sum(claim.asked for claim in asking)
        book.see(await self._store.slots(book.day), self._ledger.clock())
        for claim in asking:
            claim.grant()
        if sum(claim.granted for claim in asking) < asked:
            book.dirty = True

    async def _write(self, book: DayBook, *, release: bool = False) -> None:
        sent = book.filled(self._ledger.now(), release=release)
        try:
            answer = await self._store.write(sent)
        except ConflictError:
            book.lose()
            raise
        book.wrote(sent, answer)
        self._ended = ""
        self._written = self._ledger.clock()
        size = size_of({(key, model) for key, model, _ in sent.usage})
        self._interval = max(self._timing.write, size / _BYTES_A_SECOND)
        await self._clear(book.day)

    async def _clear(self, day: str) -> None:
        """Once a day, remove what is too old."""
        if self._cleared != day:
            self._cleared = day
            try:
                await self._store.remove(day_of(self._ledger.now() - timedelta(days=KEPT_DAYS - 1)))
            except Exception as error:  # noqa: BLE001  # tomorrow is soon enough
                logger.warning("cannot remove what was counted long ago: %s", _said(error))

    async def _end_former(self) -> None:
        while self._ledger.former:
            book = self._ledger.former[0]
            await self._keep(self._end, book)
            if book in self._ledger.former:
                self._ledger.former.remove(book)

    async def _end(self, book: DayBook) -> None:
        if book.slot is None and not book.is_written:
            await self._look(book)
        if book.is_held or not book.is_written:
            await self._write(book, release=True)


def _said(error: Exception) -> str:
    return f"{str(error) or type(error).__name__:.300}"
