"""Who may come in: every route but the health checks and the page needs a key. Pure ASGI."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from math import ceil

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.keys import Key, KeyRing
from vicuna_server.gateway.rates import Rates
from vicuna_server.http.errors import error_response

__all__ = ["ANYONE", "Gate"]

ANYONE = Key(name="", sha256="0" * 64)
"""Who asks where no keys are used."""


class Gate:
    """Finds the request's key, puts it into the ASGI state as `key`, and counts its requests.

    Args:
        app: what is behind.
        open_paths: paths that need no key.
        rates: how often each key asked.
        clock: the present time, with its zone.
    """

    def __init__(
        self,
        app: ASGIApp,
        open_paths: Collection[str],
        rates: Rates,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._open_paths = open_paths
        self._rates = rates
        self._clock = clock
        self.ring: KeyRing | None = KeyRing()
        """The keys; None: everybody may come in."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            try:
                scope.setdefault("state", {})["key"] = self._admit(scope)
            except RequestError as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Key:
        if self.ring is None:
            return ANYONE
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        key = self.ring.find(token.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            said = "this API key is not known" if token else "no API key was given"
            raise RequestError(f"{said}; send yours as `Authorization: Bearer KEY`", status=401, code="invalid_api_key")
        if key.expired(self._clock()):
            raise RequestError(f"the API key {key.name} expired; ask for a new one", status=403, code="api_key_expired")
        wait = self._rates.take(key.name, key.requests_per_minute) if scope["method"] == "POST" else 0.0
        if wait:
            raise OverloadedError(
                f"the API key {key.name} may send {key.requests_per_minute} requests a minute; wait {ceil(wait)} s",
                code="rate_limit_exceeded",
                retry_after=ceil(wait),
            )
        return key
