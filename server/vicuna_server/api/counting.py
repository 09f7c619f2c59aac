"""What each request uses: final as soon as the engine has let go of all its answers, and told to metrics then.

A gateway that names its tries gets their counts: in streams as comments (`reports`), and afterwards by asking. So both
come to the same sums, however an answer ended.
"""

import asyncio
import re
import time
from collections.abc import Callable

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_contract.names import COUNTING_HEADER, COUNTS_PATH
from vicuna_server.asgi.sse import while_connected
from vicuna_server.errors import RequestError
from vicuna_server.protocol.counts import Counts, Used

__all__ = ["Counted", "Ledger", "Tally", "router", "tally_of"]

_NAME = re.compile(r"[0-9a-f]{32}")
_STATE = "tally"
_KEPT_SECONDS = 60.0
_MOST_KEPT = 16_384
_UNKNOWN_SECONDS = 1.0


class Tally:
    """One request's counts. They are final when it is over and the engine has let go of all its answers.

    Args:
        final: told the counts, once.

    Attributes:
        named: whether a gateway wants to know them.
    """

    def __init__(self, final: Callable[[Used], None], *, named: bool) -> None:
        self._final = final
        self._used = Used()
        self._open = 1
        self.named = named

    def expect(self) -> None:
        """Wait for one call of `add` more."""
        self._open += 1

    def add(self, used: Used) -> None:
        """Take in what was expected."""
        self._used = self._used.plus(used)
        self._open -= 1
        if not self._open:
            self._final(self._used)


class Ledger:
    """The counts of requests that a gateway has named: of those under way, and of the last ones for a minute.

    Args:
        used: told the final counts of every request.
        clock: seconds that only grow.
    """

    def __init__(self, used: Callable[[Used], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._told = used
        self._clock = clock
        self._running: dict[str, asyncio.Future[Used]] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self._ended: dict[str, tuple[Used, float]] = {}  # the oldest first

    def begin(self, name: str) -> Tally:
        """Return the tally of a request that has come; `name` is empty where no gateway asks."""
        if not name:
            return Tally(self._told, named=False)
        self._running.setdefault(name, asyncio.get_running_loop().create_future())
        if name in self._awaited:
            self._awaited[name].set()

        def final(used: Used) -> None:
            self._told(used)
            self._keep(name, used)

        return Tally(final, named=True)

    async def final(self, name: str) -> Used | None:
        """Return the counts of a request as soon as they are final; None: nothing is known of it."""
        if name not in self._running and name not in self._ended:
            await self._beginning(name)
        if name in self._running:
            return await asyncio.shield(self._running[name])
        return self._ended[name][0] if name in self._ended else None

    async def _beginning(self, name: str) -> None:
        """Wait a moment for a request to come: a question may overtake the request that it is about."""
        coming = self._awaited.setdefault(name, asyncio.Event())
        try:
            await asyncio.wait_for(coming.wait(), _UNKNOWN_SECONDS)
        except TimeoutError:
            return
        finally:
            self._awaited.pop(name, None)

    def _keep(self, name: str, used: Used) -> None:
        now = self._clock()
        running = self._running.pop(name, None)
        if running is not None and not running.done():
            running.set_result(used)
        self._ended[name] = (used, now)
        while len(self._ended) > _MOST_KEPT or now - next(iter(self._ended.values()))[1] > _KEPT_SECONDS:
            del self._ended[next(iter(self._ended))]


class Counted:
    """Gives every request a tally. Pure ASGI.

    Args:
        app: what is behind.
        ledger: knows the tallies.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        tally = self._ledger.begin(_name(Headers(scope=scope)))
        scope.setdefault("state", {})[_STATE] = tally
        try:
            await self._app(scope, receive, send)
        finally:
            tally.add(Used())


def tally_of(request: Request) -> Tally:
    """Return a request's tally."""
    tally: Tally = getattr(request.state, _STATE)
    return tally


def router(ledger: Ledger) -> APIRouter:
    """Return the gateway's route, which is no part of the API."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(COUNTS_PATH)
    async def answer(request: Request) -> Response:
        name = _name(request.headers)
        used = await while_connected(request.receive, ledger.final(name)) if name else None
        if used is None:
            raise RequestError("nothing is known of this request", status=404, code="request_unknown")
        return Response(Counts(used, final=True).written(), media_type="application/json")

    return routes


def _name(headers: Headers) -> str:
    """Return the name in a header; of what is no name nothing is told."""
    given = headers.get(COUNTING_HEADER, "")
    return given if _NAME.fullmatch(given) else ""
