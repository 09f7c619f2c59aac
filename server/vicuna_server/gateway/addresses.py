"""The client's address behind trusted proxies, and how many requests one address may have under way.

Any client can write `X-Forwarded-For`. So it is read only on connections of trusted proxies, and from its end
backwards, as far as trusted proxies wrote it.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import OverloadedError

__all__ = ["Addresses", "Proxies"]


class Proxies:
    """The trusted proxies, by their networks. Pure."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)
        self.trusted = lru_cache(4096)(self._trusted)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client that sent a request.

        Args:
            peer: address of the connection's other end.
            forwarded: the values of `X-Forwarded-For`, in their order.
        """
        if not self._networks:
            return peer
        hops = [part.strip() for value in forwarded for part in value.split(",")]
        while hops and self.trusted(peer):
            peer = _plain(hops.pop()) or peer
        return peer

    def _trusted(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)


def _plain(part: str) -> str:
    """Return one hop's address without its port; empty: it is not an address."""
    host = part[1:].partition("]")[0] if part.startswith("[") else part
    host = host.partition(":")[0] if host.count(":") == 1 else host
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


class Addresses:
    """Pure ASGI: puts the client's address into the scope, and limits the requests of an address behind a proxy.

    Args:
        app: gets the requests.
        proxies: the trusted proxies.
        most: requests of one address at once; 0: any number. `ConnectionLimits` limits clients without a proxy.
    """

    def __init__(self, app: ASGIApp, proxies: Proxies, most: int) -> None:
        self._app = app
        self._proxies = proxies
        self._most = most
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request, or refuse it."""
        peer = (scope.get("client") or ("",))[0]
        if scope["type"] != "http" or not self._proxies.trusted(peer):
            await self._app(scope, receive, send)
            return
        client = self._proxies.client(peer, Headers(scope=scope).getlist("x-forwarded-for"))
        scope["client"] = (client, 0)
        if not self._most or client == peer:
            await self._app(scope, receive, send)
            return
        if self._under_way[client] >= self._most:
            error = OverloadedError(
                f"{client} has {self._most} requests under way, the most of one address; wait for some to end"
            )
            await error_response(error)(scope, receive, send)
            return
        self._under_way[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]
