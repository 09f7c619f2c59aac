"""Limits the work under way: requests and the bytes of their bodies, from admission to the end of the response."""

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import OverloadedError

__all__ = ["ADMITTED", "Admission", "Admitted", "Capacity"]

ADMITTED = "admitted"
"""Name in a request's ASGI state, of its `Admitted`."""

KEY_SHARE = 0.5
"""The share of all bytes that one key's bodies may take."""


class Capacity:
    """Counts the admitted requests and their bytes. Pure.

    Args:
        max_requests: requests under way at once.
        body_bytes: bytes of all their bodies together.
    """

    def __init__(self, max_requests: int, body_bytes: int) -> None:
        self._max_requests = max_requests
        self._body_bytes = body_bytes
        self._key_bytes = int(body_bytes * KEY_SHARE)
        self._bytes_of: Counter[str] = Counter()
        self.requests = 0
        self.bytes = 0

    def admit(self, key: str) -> "Admitted":
        """Admit a request.

        Args:
            key: the key's name; empty where keys are not used, and then no share is enforced.

        Raises:
            OverloadedError: 503, `max_requests` are under way.
        """
        if self.requests >= self._max_requests:
            raise OverloadedError(
                f"the gateway has {self._max_requests} requests under way, the most it takes; try again", status=503
            )
        self.requests += 1
        return Admitted(self, key)

    def _add_body(self, key: str, size: int) -> None:
        if key and self._bytes_of[key] + size > self._key_bytes:
            raise OverloadedError(
                f"the bodies of this key's requests under way exceed {self._key_bytes} bytes; wait for some to end",
                code="bodies_too_large",
            )
        if self.bytes + size > self._body_bytes:
            raise OverloadedError(
                f"the bodies of all requests under way exceed {self._body_bytes} bytes; try again", status=503
            )
        self._add(key, size)

    def _release(self, key: str, size: int) -> None:
        self.requests -= 1
        self._add(key, -size)

    def _add(self, key: str, size: int) -> None:
        self.bytes += size
        self._bytes_of[key] += size
        if not self._bytes_of[key]:
            del self._bytes_of[key]


class Admitted:
    """One admitted request."""

    def __init__(self, capacity: Capacity, key: str) -> None:
        self._capacity = capacity
        self._key = key
        self._size = 0

    def add_body(self, size: int) -> None:
        """Count `size` bytes more of its body.

        Raises:
            OverloadedError: 429, the key's share is used up; 503, the bytes of all requests are.
        """
        self._capacity._add_body(self._key, size)
        self._size += size

    def release(self) -> None:
        """End the request, and free its bytes."""
        self._capacity._release(self._key, self._size)


class Admission:
    """Pure ASGI, behind `Authentication`: admits every POST request, or refuses it."""

    def __init__(self, app: ASGIApp, capacity: Capacity) -> None:
        self._app = app
        self._capacity = capacity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request, or refuse it."""
        key = scope.get("state", {}).get("key")
        if key is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            admitted = self._capacity.admit(key.name)
        except OverloadedError as error:
            await error_response(error)(scope, receive, send)
            return
        scope["state"][ADMITTED] = admitted
        try:
            await self._app(scope, receive, send)
        finally:
            admitted.release()
