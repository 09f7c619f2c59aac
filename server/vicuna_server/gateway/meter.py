"""What one request uses at all servers that it is sent to: told to the books as it grows, to metrics at each try's end.

A try whose answer ended early is asked for in the background, so that what it really used is known.
"""

import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

from vicuna_server.gateway.accounting import Reservation
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.protocol.counts import Used

__all__ = ["Meter", "Try"]


class Meter:
    """One request's.

    Args:
        reservation: its place in the books.
        settled: told each try whose counts are final.
        ask: asked about a try whose counts are not; it settles it in the end.
        closed: told once that the request is over and all its tries are settled.
    """

    def __init__(
        self,
        reservation: Reservation,
        settled: Callable[["Try"], None],
        ask: Callable[["Try"], None],
        closed: Callable[[], None],
    ) -> None:
        self._reservation = reservation
        self._settled = settled
        self._ask = ask
        self._closed = closed
        self._tries: list[Try] = []
        self._open = 1

    @property
    def used(self) -> Used | None:
        """What all tries have used; None where no server has told."""
        total: Used | None = None
        for each in self._tries:
            if each.used is not None:
                total = each.used if total is None else total.plus(each.used)
        return total

    def begin(self, endpoint: Endpoint) -> "Try":
        """Return a try at an endpoint, to be entered and left."""
        self._open += 1
        self._tries.append(Try(self, endpoint))
        return self._tries[-1]

    def close(self) -> None:
        """End the request, or a try; behind the last of them it is over."""
        self._open -= 1
        if not self._open:
            self._reservation.close()
            self._closed()

    def _grown(self) -> None:
        if (used := self.used) is not None:
            self._reservation.record(*used)

    def _over(self, one: "Try") -> None:
        self._settled(one)
        self.close()


class Try:
    """A request at one server.

    Attributes:
        endpoint: the server.
        name: 32 hex, by which the server knows it.
        revision: of the server, as far as it says.
        used: what it has used so far; None: nobody has told.
    """

    def __init__(self, meter: Meter, endpoint: Endpoint) -> None:
        self._meter = meter
        self._over = False
        self.endpoint = endpoint
        self.name = secrets.token_hex(16)
        self.revision = ""
        self.used: Used | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if not self._over:
            self._meter._ask(self)

    def record(self, used: Used) -> None:
        """Learn what it has used so far; it never gets less, and grows no more once it is settled."""
        if not self._over:
            self.used = used if self.used is None else self.used.grown(used)
            self._meter._grown()

    def settle(self) -> None:
        """Say that its counts grow no more, or that nobody will know."""
        if not self._over:
            self._over = True
            self._meter._over(self)
