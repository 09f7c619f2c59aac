"""How much work there may be at once: requests, and the bytes of their bodies, from admission to the answer's end."""

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import OverloadedError

__all__ = ["PLACE", "Admission", "Desk", "Place"]

PLACE = "place"
"""Under this name a request's ASGI state has its place."""

KEY_SHARE = 0.5
"""The part of all bytes that one key's bodies may take."""


class Desk:
    """Counts what has been let in. Pure.

    Args:
        max_requests: under way at once.
        body_bytes: of all bodies under way.
    """

    def __init__(self, max_requests: int, body_bytes: int) -> None:
        self._max_requests = max_requests
        self._body_bytes = body_bytes
        self._key_bytes = int(body_bytes * KEY_SHARE)
        self._bytes_of: Counter[str] = Counter()
        self.requests = 0
        self.bytes = 0

    def enter(self, key: str) -> "Place":
        """Let a request in.

        Args:
            key: the key's name; empty where keys are not used, and then no share is kept.

        Raises:
            OverloadedError: 503, as many are under way as may be.
        """
        if self.requests >= self._max_requests:
            raise OverloadedError(
                f"the gateway has {self._max_requests} requests under way and takes no more; try again", status=503
            )
        self.requests += 1
        return Place(self, key)

    def _take(self, key: str, size: int) -> None:
        if key and self._bytes_of[key] + size > self._key_bytes:
            raise OverloadedError(
                f"this key's bodies under way are more than {self._key_bytes} bytes; wait for requests to end",
                code="bodies_too_large",
            )
        if self.bytes + size > self._body_bytes:
            raise OverloadedError(
                f"the bodies of all requests under way are more than {self._body_bytes} bytes; try again", status=503
            )
        self._add(key, size)

    def _leave(self, key: str, size: int) -> None:
        self.requests -= 1
        self._add(key, -size)

    def _add(self, key: str, size: int) -> None:
        self.bytes += size
        self._bytes_of[key] += size
        if not self._bytes_of[key]:
            del self._bytes_of[key]


class Place:
    """One request's."""

    def __init__(self, desk: Desk, key: str) -> None:
        self._desk = desk
        self._key = key
        self._size = 0

    def take(self, size: int) -> None:
        """Count bytes of its body that came.

        Raises:
            OverloadedError: 429, the key's share is used up; 503, there is no room at all.
        """
        self._desk._take(self._key, size)
        self._size += size

    def leave(self) -> None:
        """End."""
        self._desk._leave(self._key, self._size)


class Admission:
    """Pure ASGI, behind the gate: gives every POST a place, as long as it lasts."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request, or refuse it."""
        key = scope.get("state", {}).get("key")
        if key is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            place = self._desk.enter(key.name)
        except OverloadedError as error:
            await error_response(error)(scope, receive, send)
            return
        scope["state"][PLACE] = place
        try:
            await self._app(scope, receive, send)
        finally:
            place.leave()
