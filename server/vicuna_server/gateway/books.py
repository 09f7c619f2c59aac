"""The books: every request that goes to a model is opened here, its tokens are counted, and its key's limits are kept.

A request under way holds what it may still use. So a limit is passed by one request of each replica at most, the one
that begins alone while something is left.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import NoReturn

from vicuna_server.errors import OverloadedError
from vicuna_server.gateway.bookkeeper import Bookkeeper
from vicuna_server.gateway.claims import Account, Claim, fits
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.ledger import Ledger
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.usage_store import ClusterStore, NoStoreError
from vicuna_server.protocol.counts import Used

__all__ = ["Books", "Entry", "books_of"]

_PATIENCE = 2.0
"""Seconds that a request waits for a part of its key's day."""
_FRESH = 2.0
"""Seconds for which it is believed that nothing more is to be had."""
_SOON = 10


class Books:
    """The books of one replica.

    Args:
        ledger: what is counted.
        rates: knows how many replicas share each limit.
        keeper: writes the ledger into a store; None: it stays in memory.

    Attributes:
        under_way: requests that are open.
    """

    def __init__(self, ledger: Ledger, rates: Rates, keeper: Bookkeeper | None = None) -> None:
        self.under_way = 0
        self._ledger = ledger
        self._rates = rates
        self._keeper = keeper

    async def run(self) -> None:
        """Write into the store until cancelled."""
        if self._keeper is not None:
            await self._keeper.run()

    async def close(self) -> None:
        """Write what is left; behind the last request, and behind `run`."""
        if self._keeper is not None:
            await self._keeper.close()

    def used(self, key: str, model: str) -> Used:
        """Return what a key has used of a model today, in this replica and those whose slot it has."""
        return self._ledger.today().used(key, model)

    async def open(self, key: Key, model: str, most: int) -> "Entry":
        """Let a request begin, and count it.

        Args:
            key: whose limits are kept.
            model: the id of the model.
            most: tokens of prompt and completions that it can come to.

        Raises:
            OverloadedError: 429 `rate_limit_exceeded`; 503 `usage_unavailable`: the store does not say how much of
                the key's day is left.
        """
        if key.tokens_per_minute is None and key.tokens_per_day is None:
            return self._begin(key, model, None, 0)
        account = self._ledger.account(key.name)
        account.touched = self._ledger.clock()
        self._check_minute(key, account, most)
        if key.tokens_per_day is not None:
            await self._claim(key, key.tokens_per_day, account, most)
            self._check_minute(key, account, most)
        return self._begin(key, model, self._ledger.account(key.name), most)

    def _begin(self, key: Key, model: str, account: Account | None, most: int) -> "Entry":
        self.under_way += 1
        return Entry(self._ledger, key.name, model, account, most, self._ended)

    def _ended(self) -> None:
        self.under_way -= 1

    def _check_minute(self, key: Key, account: Account, most: int) -> None:
        limit, now = key.tokens_per_minute, self._ledger.clock()
        if limit is None:
            return
        share = self._rates.share(limit)
        if fits(account, account.recent.sum(now), most, share):
            return
        wait = account.recent.wait(max(0, min(share - 1, share - most - account.held)), now)
        _refuse(f"the API key {key.name} may use {limit} tokens a minute", most, max(1, ceil(wait)))

    async def _claim(self, key: Key, limit: int, account: Account, most: int) -> None:
        """Return when the request fits into this replica's part of the day."""
        until = self._ledger.clock() + _PATIENCE
        while not self._admits(key, limit, account, most):
            assert self._keeper is not None  # noqa: S101  # without one it fits or is refused
            try:
                async with asyncio.timeout(until - self._ledger.clock()):
                    await self._keeper.more(account, most)
            except NoStoreError:
                continue
            except Exception as error:  # whatever it was, the store did not say
                claim = self._ledger.today().claim(key.name, account, limit)
                if fits(account, self._ledger.today().spent(key.name), most, claim.granted):
                    return
                raise OverloadedError(
                    f"how much of the day's {limit} tokens of the API key {key.name} is left cannot be read; try again",
                    status=503,
                    code="usage_unavailable",
                    retry_after=5,
                ) from error

    def _admits(self, key: Key, limit: int, account: Account, most: int) -> bool:
        """Whether it fits; raises where it cannot come to fit."""
        book = self._ledger.today()
        spent = book.spent(key.name)
        if self._keeper is None or self._keeper.absent:
            share = self._rates.share(limit)
            return fits(account, spent, most, share) or self._refuse_day(key, limit, most, over=spent >= share)
        claim = book.claim(key.name, account, limit)
        if spent + account.held + most <= claim.granted:
            return True
        over = spent + claim.used >= limit
        if not over and not self._is_known(claim):
            return False
        return (not over and fits(account, spent, most, claim.granted)) or self._refuse_day(key, limit, most, over=over)

    def _is_known(self, claim: Claim) -> bool:
        """Whether nothing more is to be had, for what is known."""
        return claim.exhausted and self._ledger.clock() - claim.read < _FRESH

    def _refuse_day(self, key: Key, limit: int, most: int, *, over: bool) -> NoReturn:
        now = self._ledger.now()
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
        what = f"the API key {key.name} may use {limit} tokens a day (UTC)"
        _refuse(what, most, ceil((midnight - now).total_seconds()) if over else _SOON)


def _refuse(what: str, most: int, wait: int) -> NoReturn:
    message = f"{what}, and this request up to {most}; wait {wait} s"
    raise OverloadedError(message, code="rate_limit_exceeded", retry_after=wait)


class Entry:
    """One request, from `Books.open` on; to be closed, whatever becomes of it."""

    def __init__(
        self, ledger: Ledger, key: str, model: str, account: Account | None, most: int, ended: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._ended = ended
        self._key = key
        self._model = model
        self._account = account
        self._most = most
        self._held = 0
        self._counts = (0, 0)
        self._open = True
        if account is not None:
            account.under_way += 1
            self._hold(most)
        ledger.count(key, model, 1, 0, 0)

    def counted(self, prompt: int, completion: int) -> None:
        """Note the tokens of the whole request so far; what was counted once stays counted."""
        before, self._counts = self._counts, (max(prompt, self._counts[0]), max(completion, self._counts[1]))
        more = [count - earlier for count, earlier in zip(self._counts, before, strict=True)]
        if not any(more):
            return
        self._ledger.count(self._key, self._model, 0, *more)
        if self._account is not None:
            self._account.recent.add(sum(more), self._ledger.clock())
            if self._held:
                self._hold(max(0, self._most - sum(self._counts)))

    def close(self) -> None:
        """End: what it could have used and did not is free again."""
        if not self._open:
            return
        self._open = False
        self._ended()
        if self._account is not None:
            self._hold(0)
            self._account.under_way -= 1
            self._account = None

    def _hold(self, tokens: int) -> None:
        if self._account is not None:
            self._account.held += tokens - self._held
            self._account.touched = self._ledger.clock()
            self._held = tokens


def books_of(service: NamespacedName | None, rates: Rates, now: Callable[[], datetime] | None = None) -> Books:
    """Return the books of this process; they are in memory where it is part of no gateway in a cluster.

    Args:
        service: the gateway's own Service, by whose name the store's objects are called.
        rates: knows how many replicas there are.
        now: the present time in UTC.
    """
    pod = os.environ.get("HOSTNAME") or socket.gethostname()
    ledger = Ledger(f"{pod}/{secrets.token_hex(8)}", time.monotonic, now or (lambda: datetime.now(UTC)))
    if service is None:
        return Books(ledger, rates)
    return Books(ledger, rates, Bookkeeper(ledger, ClusterStore(service), lambda: rates.replicas, f"{pod}/"))
