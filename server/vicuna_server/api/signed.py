"""Lets in only what came through the gateway, and whoever is in the pod already. Pure ASGI."""

from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_contract.names import ENGINE_PATH, LIVE_PATH, READY_PATH
from vicuna_contract.signing import SIGNATURE_HEADER
from vicuna_server.api.settings import Check
from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import RequestError

__all__ = ["OPEN_PATHS", "Signed", "is_local"]

OPEN_PATHS = frozenset({LIVE_PATH, READY_PATH, ENGINE_PATH, "/metrics"})
"""What needs no signature: kubelets and Prometheus have none. Who reaches `/metrics` is for a NetworkPolicy to say."""


class Signed:
    """Refuses with 401 what is not signed, before anything of its body is read.

    Args:
        app: what is behind.
        signatures: the check of a token.
    """

    def __init__(self, app: ASGIApp, signatures: Check) -> None:
        self._app = app
        self._signatures = signatures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not is_local(scope):
            token = Headers(scope=scope).get(SIGNATURE_HEADER, "")
            try:
                self._signatures.check(token, scope["method"], scope["path"])
            except RequestError as error:
                answer = error_response(error)
                answer.headers["connection"] = "close"  # the body is not read
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_local(scope: Scope) -> bool:
    """Tell whether both ends of the connection are the loopback device of this pod: `kubectl port-forward` and `exec`.

    A service mesh's proxy beside the server passes strangers' requests on to the pod's own address, so the client's end
    alone proves nothing. Both are the socket's: no header can say otherwise (uvicorn's `proxy_headers` are off).
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
