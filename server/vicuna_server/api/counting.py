"""The tokens that each request uses; the counts are final once the engine has let go of all its generations.

A gateway that names its requests gets their counts: within streams as comments (`count_comments`), and afterwards from
a route. So gateway and server come to the same sums, however a response ended.
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

__all__ = ["CountingMiddleware", "CountsRegistry", "RequestCounts", "counts_of", "router"]

_NAME = re.compile(r"[0-9a-f]{32}")
_STATE = "counts"
_KEPT_SECONDS = 60.0
_MAX_KEPT = 16_384
_UNKNOWN_SECONDS = 1.0


class RequestCounts:
    """One request's counts. They are final when it is over and the engine has let go of all its generations.

    Args:
        on_final: Called with the counts, once.

    Attributes:
        named: Whether a gateway has named the request, and so wants its counts.
    """

    def __init__(self, on_final: Callable[[Used], None], *, named: bool) -> None:
        self._on_final = on_final
        self._used = Used()
        self._open = 1
        self.named = named

    def expect(self) -> None:
        """Wait for one more call of `add`."""
        self._open += 1

    def add(self, used: Used) -> None:
        """Add counts that were expected."""
        self._used = self._used.plus(used)
        self._open -= 1
        if not self._open:
            self._on_final(self._used)


class CountsRegistry:
    """The counts of requests that a gateway has named: of running ones, and of those that ended in the last minute.

    Args:
        on_final: Called with the final counts of every request, named or not.
        clock: Seconds on a monotonic clock.
    """

    def __init__(self, on_final: Callable[[Used], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_final = on_final
        self._clock = clock
        self._running: dict[str, asyncio.Future[Used]] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self._ended: dict[str, tuple[Used, float]] = {}  # the oldest first

    def begin(self, name: str) -> RequestCounts:
        """Return the counts of a new request; `name` is empty where no gateway has named it."""
        if not name:
            return RequestCounts(self._on_final, named=False)
        self._running.setdefault(name, asyncio.get_running_loop().create_future())
        if name in self._awaited:
            self._awaited[name].set()

        def on_final(used: Used) -> None:
            self._on_final(used)
            self._keep(name, used)

        return RequestCounts(on_final, named=True)

    async def final(self, name: str) -> Used | None:
        """Return the counts of a request as soon as they are final; None: the request is unknown."""
        if name not in self._running and name not in self._ended:
            await self._wait_for(name)
        if name in self._running:
            return await asyncio.shield(self._running[name])
        return self._ended[name][0] if name in self._ended else None

    async def _wait_for(self, name: str) -> None:
        """Wait a moment for a request to come, since the gateway's question may overtake the request itself."""
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
        while len(self._ended) > _MAX_KEPT or now - next(iter(self._ended.values()))[1] > _KEPT_SECONDS:
            del self._ended[next(iter(self._ended))]


class CountingMiddleware:
    """Gives every POST request its counts. Pure ASGI.

    Args:
        app: The application behind.
        registry: Makes the counts.
    """

    def __init__(self, app: ASGIApp, registry: CountsRegistry) -> None:
        self._app = app
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        counts = self._registry.begin(_name(Headers(scope=scope)))
        scope.setdefault("state", {})[_STATE] = counts
        try:
            await self._app(scope, receive, send)
        finally:
            counts.add(Used())


def counts_of(request: Request) -> RequestCounts:
    """Return a request's counts."""
    counts: RequestCounts = getattr(request.state, _STATE)
    return counts


def router(registry: CountsRegistry) -> APIRouter:
    """Return the route from which the gateway reads counts; it is not a part of OpenAI's API."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(COUNTS_PATH)
    async def counts(request: Request) -> Response:
        name = _name(request.headers)
        used = await while_connected(request.receive, registry.final(name)) if name else None
        if used is None:
            raise RequestError(
                f"the request that {COUNTING_HEADER} names is unknown here: it never came, or ended more than "
                f"{_KEPT_SECONDS:.0f} s ago; ask sooner, with the name that the request had",
                status=404,
                code="request_unknown",
            )
        return Response(Counts(used, final=True).written(), media_type="application/json")

    return routes


def _name(headers: Headers) -> str:
    """Return the request's name from its header; empty where the header is missing or not a name."""
    given = headers.get(COUNTING_HEADER, "")
    return given if _NAME.fullmatch(given) else ""
