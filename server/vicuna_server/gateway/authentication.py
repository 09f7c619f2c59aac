"""Authentication: every route except the health checks and the page needs an API key. Pure ASGI."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from math import ceil

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.connection import CONNECTION
from vicuna_server.gateway.keys import Key, KeyRing
from vicuna_server.gateway.rates import Rates

__all__ = ["ANONYMOUS", "Authentication"]

ANONYMOUS = Key(name="", sha256="0" * 64)
"""The key of all requests where no keys are used."""

_GETS = "requests other than POST"


class Authentication:
    """Finds the key of a request, puts it into the ASGI state as `key`, and counts the key's requests.

    Args:
        app: gets the requests that have a valid key.
        open_paths: paths that need no key.
        rates: counts the requests of each key.
        gets_per_minute: requests of each key by other methods than POST; None: no limit.
        on_keys_changed: called when keys may have changed, with a function that says whether a key is valid still.
        clock: the present time, with its zone.
    """

    def __init__(
        self,
        app: ASGIApp,
        open_paths: Collection[str],
        rates: Rates,
        gets_per_minute: int | None = None,
        on_keys_changed: Callable[[Callable[[Key], bool]], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._open_paths = open_paths
        self._rates = rates
        self._gets_per_minute = gets_per_minute
        self._on_keys_changed = on_keys_changed
        self._clock = clock
        self._ring: KeyRing | None = KeyRing()

    @property
    def ring(self) -> KeyRing | None:
        """The keys; None: requests need no key."""
        return self._ring

    @ring.setter
    def ring(self, ring: KeyRing | None) -> None:
        self._ring = ring
        self.look()

    def look(self) -> None:
        """Report keys that were revoked or have expired; to be called once in a while."""
        ring, now = self._ring, self._clock()
        if ring is not None:
            self._on_keys_changed(lambda key: ring.holds(key, now))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            try:
                state = scope.setdefault("state", {})
                state["key"] = self._admit(scope)
                if CONNECTION in state:
                    state[CONNECTION].mark_authenticated()
            except RequestError as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def has_valid_key(self, head: bytes) -> bool:
        """Whether a request's head, as it received, has a key that opens something; without keys every one has."""
        if self.ring is None:
            return True
        name = head.lower().find(b"\nauthorization:")
        if name < 0:
            return False
        value = head[head.index(b":", name) + 1 :].split(b"\n", 1)[0]
        key = self._find(value.decode("latin-1").strip())
        return key is not None and not key.expired(self._clock())

    def _find(self, authorization: str) -> Key | None:
        scheme, _, token = authorization.partition(" ")
        return self.ring.find(token.strip()) if self.ring and scheme.lower() == "bearer" else None

    def _admit(self, scope: Scope) -> Key:
        if self.ring is None:
            return ANONYMOUS
        said = Headers(scope=scope).get("authorization", "")
        key = self._find(said)
        if key is None:
            said = "this API key is not known" if said.partition(" ")[2] else "no API key was given"
            raise RequestError(f"{said}; send yours as `Authorization: Bearer KEY`", status=401, code="invalid_api_key")
        if key.expired(self._clock()):
            raise RequestError(
                f"the API key {key.name} has expired; ask for a new one", status=403, code="api_key_expired"
            )
        self._count(key, scope["method"])
        return key

    def _count(self, key: Key, method: str) -> None:
        posts = method == "POST"
        most = key.requests_per_minute if posts else self._gets_per_minute
        wait = self._rates.take(key.name if posts else f"{key.name} {_GETS}", most)
        if wait:
            what = "requests" if posts else _GETS
            raise OverloadedError(
                f"the API key {key.name} may send {most} {what} a minute; wait {ceil(wait)} s",
                code="rate_limit_exceeded",
                retry_after=ceil(wait),
            )
