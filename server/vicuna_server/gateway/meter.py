"""Counts what one request uses at all servers that it is sent to: for limits at once, for metrics after each attempt.

If a response ended early, the server is asked in the background what the attempt really used.
"""

import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

from vicuna_server.gateway.accounting import Reservation
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.protocol.counts import Used

__all__ = ["Attempt", "RequestMeter"]


class RequestMeter:
    """Counts the tokens of one request.

    Args:
        reservation: of the request's tokens.
        on_settled: called with each attempt whose counts are final.
        on_unsettled: called with an attempt that ended before its counts were final; it must settle it later.
        on_closed: called once, after the request has ended and all its attempts are settled.
    """

    def __init__(
        self,
        reservation: Reservation,
        on_settled: Callable[["Attempt"], None],
        on_unsettled: Callable[["Attempt"], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._reservation = reservation
        self._on_settled = on_settled
        self._on_unsettled = on_unsettled
        self._on_closed = on_closed
        self._attempts: list[Attempt] = []
        self._open = 1

    @property
    def used(self) -> Used | None:
        """What all attempts have used; None where no server has said."""
        total: Used | None = None
        for each in self._attempts:
            if each.used is not None and not each.pending:
                total = each.used if total is None else total.plus(each.used)
        return total

    def begin(self, endpoint: Endpoint, *, pending: bool = False) -> "Attempt":
        """Return an attempt at an endpoint, to be used as a context manager; see `Attempt.pending`."""
        self._open += 1
        self._attempts.append(Attempt(self, endpoint, pending=pending))
        return self._attempts[-1]

    def close(self) -> None:
        """End the request or an attempt; after the last of them the request is closed."""
        self._open -= 1
        if not self._open:
            self._reservation.close()
            self._on_closed()

    def _update(self) -> None:
        if (used := self.used) is not None:
            self._reservation.record(*used)

    def _over(self, attempt: "Attempt") -> None:
        self._on_settled(attempt)
        self.close()


class Attempt:
    """One attempt to get a response, at one server.

    Attributes:
        endpoint: the server.
        name: 32 hex digits, by which the server knows it.
        revision: of the server; empty: not known.
        used: tokens so far; None: the server has not said.
        pending: whether it may yet count for an earlier attempt too, and is not counted meanwhile.
    """

    def __init__(self, meter: RequestMeter, endpoint: Endpoint, *, pending: bool = False) -> None:
        self.pending = pending
        self._meter = meter
        self._over = False
        self._kept = False
        self.endpoint = endpoint
        self.name = secrets.token_hex(16)
        self.revision = ""
        self.used: Used | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._count()
        if not self._over and not self._kept:
            self._meter._on_unsettled(self)

    def keep(self) -> None:
        """Leave its counts open at its end, since another attempt may go on with its response."""
        self._kept = True

    def give_up(self) -> None:
        """End it without another attempt that has gone on with its response."""
        if self._kept and not self._over:
            self._meter._on_unsettled(self)

    def drop(self) -> None:
        """Count nothing of it: the request has its response from the server that it had it from before."""
        self.used = None
        self.settle()

    def go_on(self, earlier: "Attempt") -> None:
        """Count for an earlier attempt too, and settle that: what its server counted, this one's counts again."""
        used, earlier.used = earlier.used, None
        earlier.settle()
        if used is not None:
            self.record(used)
        self._count()

    def record(self, used: Used) -> None:
        """Record what it has used so far; counts never decrease, and do not change once they are settled."""
        if not self._over:
            self.used = used if self.used is None else self.used.grown(used)
            self._meter._update()

    def _count(self) -> None:
        if self.pending:
            self.pending = False
            self._meter._update()

    def complete(self, status: int, used: Used | None) -> None:
        """Record the usage that a complete response states; a 5xx does not state all that was used."""
        if used is not None:
            self.record(used)
        if status < 500:
            self.settle()

    def settle(self) -> None:
        """Make its counts final: they are complete, or nobody knows the rest."""
        if not self._over:
            self._over = True
            self._meter._over(self)
