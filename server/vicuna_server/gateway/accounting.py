"""Accounting of tokens: opens every request that goes to a model, counts its tokens, and enforces its key's limits.

A request under way reserves the tokens that it may still use. So on each replica one request at most can exceed a
limit: one that starts while no other is under way and some tokens are left.
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
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.quota import KeyUsage, Quota, fits
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.replica_usage import ReplicaUsage
from vicuna_server.gateway.usage_store import ClusterStore, NoStoreError
from vicuna_server.gateway.usage_writer import UsageWriter
from vicuna_server.protocol.counts import Used

__all__ = ["Accounting", "Reservation", "accounting_of"]

_PATIENCE = 2.0
"""Seconds that a request waits for a larger quota of its key's tokens of the day."""
_FRESH = 2.0
"""Seconds for which a quota counts as exhausted after the store said so."""
_SOON = 10
"""Seconds to wait where other replicas hold the rest of the day's tokens and may give some back."""


class Accounting:
    """The token accounting of one replica.

    Args:
        usage: what is counted.
        rates: knows how many replicas share each limit.
        writer: writes the usage to the store; None: it stays in memory.

    Attributes:
        under_way: requests that are open.
    """

    def __init__(self, usage: ReplicaUsage, rates: Rates, writer: UsageWriter | None = None) -> None:
        self.under_way = 0
        self._usage = usage
        self._rates = rates
        self._writer = writer

    async def run(self) -> None:
        """Write to the store until cancelled."""
        if self._writer is not None:
            await self._writer.run()

    async def close(self) -> None:
        """Write what is left; called after the last request and after `run`."""
        if self._writer is not None:
            await self._writer.close()

    def used(self, key: str, model: str) -> Used:
        """Return the tokens of a model that a key has used today, as counted in this replica's slot."""
        return self._usage.today().used(key, model)

    async def open(self, key: Key, model: str, most: int) -> "Reservation":
        """Let a request start, and count it.

        Args:
            key: whose limits are kept.
            model: the id of the model.
            most: tokens of its prompt and completions, at most.

        Raises:
            OverloadedError: 429 `rate_limit_exceeded`; 503 `usage_unavailable`: the store does not say how many of
                the key's tokens of the day are left.
        """
        if key.tokens_per_minute is None and key.tokens_per_day is None:
            return self._begin(key, model, None, 0)
        key_usage = self._usage.of_key(key.name)
        key_usage.touched = self._usage.clock()
        self._check_minute(key, key_usage, most)
        if key.tokens_per_day is not None:
            await self._await_quota(key, key.tokens_per_day, key_usage, most)
            self._check_minute(key, key_usage, most)
        return self._begin(key, model, self._usage.of_key(key.name), most)

    def _begin(self, key: Key, model: str, key_usage: KeyUsage | None, most: int) -> "Reservation":
        self.under_way += 1
        return Reservation(self._usage, key.name, model, key_usage, most, self._on_closed)

    def _on_closed(self) -> None:
        self.under_way -= 1

    def _check_minute(self, key: Key, key_usage: KeyUsage, most: int) -> None:
        limit, now = key.tokens_per_minute, self._usage.clock()
        if limit is None:
            return
        share = self._rates.share(limit)
        if fits(key_usage, key_usage.recent.sum(now), most, share):
            return
        wait = key_usage.recent.wait(max(0, min(share - 1, share - most - key_usage.reserved)), now)
        _refuse(f"the API key {key.name} may use {limit} tokens a minute", most, max(1, ceil(wait)))

    async def _await_quota(self, key: Key, limit: int, key_usage: KeyUsage, most: int) -> None:
        """Return when the request fits into this replica's quota of the day."""
        until = self._usage.clock() + _PATIENCE
        while not self._admits(key, limit, key_usage, most):
            assert self._writer is not None  # noqa: S101  # without a writer a request fits or is refused
            try:
                async with asyncio.timeout(until - self._usage.clock()):
                    await self._writer.more(key_usage, most)
            except NoStoreError:
                continue
            except Exception as error:  # whatever failed, the remaining tokens are not known
                quota = self._usage.today().quota(key.name, key_usage, limit)
                if fits(key_usage, self._usage.today().spent(key.name), most, quota.granted):
                    return
                raise OverloadedError(
                    f"the store of usage does not answer, so what is left of the {limit} tokens a day of the API key "
                    f"{key.name} is not known; try again in 5 s",
                    status=503,
                    code="usage_unavailable",
                    retry_after=5,
                ) from error

    def _admits(self, key: Key, limit: int, key_usage: KeyUsage, most: int) -> bool:
        """Whether the request fits; raises where a larger quota cannot make it fit."""
        day = self._usage.today()
        spent = day.spent(key.name)
        if self._writer is None or self._writer.absent:
            share = self._rates.share(limit)
            return fits(key_usage, spent, most, share) or self._refuse_day(key, limit, most, over=spent >= share)
        quota = day.quota(key.name, key_usage, limit)
        if spent + key_usage.reserved + most <= quota.granted:
            return True
        over = spent + quota.used >= limit
        if not over and not self._is_exhausted(quota):
            return False
        may_start = not over and fits(key_usage, spent, most, quota.granted)
        return may_start or self._refuse_day(key, limit, most, over=over)

    def _is_exhausted(self, quota: Quota) -> bool:
        """Whether the store said recently that no more tokens are left to grant."""
        return quota.exhausted and self._usage.clock() - quota.read < _FRESH

    def _refuse_day(self, key: Key, limit: int, most: int, *, over: bool) -> NoReturn:
        now = self._usage.now()
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
        what = f"the API key {key.name} may use {limit} tokens a day (UTC)"
        _refuse(what, most, ceil((midnight - now).total_seconds()) if over else _SOON)


def _refuse(what: str, most: int, wait: int) -> NoReturn:
    message = f"{what}, and this request up to {most}; wait {wait} s"
    raise OverloadedError(message, code="rate_limit_exceeded", retry_after=wait)


class Reservation:
    """The tokens that one request has used and may still use; the owner closes it in every case.

    Args:
        usage: where its tokens are counted.
        key: name of the API key.
        model: id of the model.
        key_usage: of the key; None: the key has no limit of tokens.
        most: tokens that it may use.
        on_closed: called once, when it is closed.
    """

    def __init__(
        self,
        usage: ReplicaUsage,
        key: str,
        model: str,
        key_usage: KeyUsage | None,
        most: int,
        on_closed: Callable[[], None],
    ) -> None:
        self._usage = usage
        self._on_closed = on_closed
        self._key = key
        self._model = model
        self._key_usage = key_usage
        self._most = most
        self._reserved = 0
        self._counts = (0, 0)
        self._open = True
        if key_usage is not None:
            key_usage.under_way += 1
            self._reserve(most)
        usage.count(key, model, 1, 0, 0)

    def record(self, prompt: int, completion: int) -> None:
        """Record the tokens of the whole request so far; the counts never decrease."""
        before, self._counts = self._counts, (max(prompt, self._counts[0]), max(completion, self._counts[1]))
        more = [count - earlier for count, earlier in zip(self._counts, before, strict=True)]
        if not any(more):
            return
        self._usage.count(self._key, self._model, 0, *more)
        if self._key_usage is not None:
            self._key_usage.recent.add(sum(more), self._usage.clock())
            if self._reserved:
                self._reserve(max(0, self._most - sum(self._counts)))

    def close(self) -> None:
        """End the request: tokens that it reserved and did not use are free again."""
        if not self._open:
            return
        self._open = False
        self._on_closed()
        if self._key_usage is not None:
            self._reserve(0)
            self._key_usage.under_way -= 1
            self._key_usage = None

    def _reserve(self, tokens: int) -> None:
        if self._key_usage is not None:
            self._key_usage.reserved += tokens - self._reserved
            self._key_usage.touched = self._usage.clock()
            self._reserved = tokens


def accounting_of(
    service: NamespacedName | None, rates: Rates, now: Callable[[], datetime] | None = None
) -> Accounting:
    """Return the accounting of this process; it stays in memory where there is no cluster.

    Args:
        service: the gateway's own Service, after which the store's objects are named; None: there is no cluster.
        rates: knows how many replicas there are.
        now: the present time in UTC.
    """
    pod = os.environ.get("HOSTNAME") or socket.gethostname()
    usage = ReplicaUsage(f"{pod}/{secrets.token_hex(8)}", time.monotonic, now or (lambda: datetime.now(UTC)))
    if service is None:
        return Accounting(usage, rates)
    return Accounting(usage, rates, UsageWriter(usage, ClusterStore(service), lambda: rates.replicas, f"{pod}/"))
