"""Admits only requests that came through the gateway or from inside the pod. Pure ASGI."""

from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_contract.names import ENGINE_PATH, LIVE_PATH, READY_PATH
from vicuna_contract.signing import SIGNATURE_HEADER
from vicuna_server.api.settings import Check
from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import RequestError

__all__ = ["OPEN_PATHS", "RequireSignature", "is_local"]

OPEN_PATHS = frozenset({LIVE_PATH, READY_PATH, ENGINE_PATH, "/metrics"})
"""Paths that need no signature: kubelets and Prometheus have none. A NetworkPolicy limits who reaches `/metrics`."""


class RequireSignature:
    """Refuses requests without a valid signature with 401, before anything of the body is read.

    Args:
        app: The application behind.
        signatures: The check of a token.
    """

    def __init__(self, app: ASGIApp, signatures: Check) -> None:
        self._app = app
        self._signatures = signatures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not is_local(scope):
            token = Headers(scope=scope).get(SIGNATURE_HEADER, "")
            try:
                self._signatures.check(token, scope["method"], scope["path"])
            except RequestError as error:
                response = error_response(error)
                response.headers["connection"] = "close"  # the body is not read
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_local(scope: Scope) -> bool:
    """Return whether both ends of the connection are this pod's loopback, as with `kubectl port-forward` and `exec`.

    The client's end alone proves nothing: a service mesh's proxy forwards requests from outside, to the pod's own
    address. Both ends are the socket's; headers cannot change them (uvicorn's `proxy_headers` is off).
    """
    return _is_loopback(scope.get("client")) and _is_loopback(scope.get("server"))


def _is_loopback(end: object) -> bool:
    if not isinstance(end, (tuple, list)) or not end:
        return False
    try:
        address = ip_address(str(end[0]))
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
