"""Where a hub may send us: to whatever the internet has, but not into the network that we run in."""

import ipaddress
import socket
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from vicuna_server.errors import UnreachableError

__all__ = ["require_public_peer", "target_of"]

_SCHEMES = ("http", "https")
_FOUND = (301, 302, 303, 307, 308)


def target_of(what: str, response: Any, url: str, asked: str) -> str | None:
    """Return where an answer sends us; None where it does not.

    Args:
        what: the source or file, as people know it.
        response: the answer.
        url: what was asked for.
        asked: the URL that the way began with: who asks a private address may be sent to another one.

    Raises:
        UnreachableError: it sends us to what is not the web, or into a private network.
    """
    place = response.headers.get("Location")
    if response.status_code not in _FOUND or not place:
        return None
    target = urljoin(url, str(place))
    parts = urlsplit(target)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise _refusal(what, f"to {parts.scheme or 'nothing'}:")
    if not _is_proxied(parts.scheme, parts.hostname) or _literal(parts.hostname):
        for address in _addresses(parts.hostname):
            _require_public(what, address, asked)
    return target


def require_public_peer(what: str, response: Any, url: str, asked: str) -> None:
    """Refuse an answer that a redirect had come from a private address: a name may have another one each time.

    Raises:
        UnreachableError: it did.
    """
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None and url != asked else None
    if peer and not _is_proxied(urlsplit(url).scheme, urlsplit(url).hostname or ""):
        _require_public(what, str(peer[0]), asked)


def _require_public(what: str, address: str, asked: str) -> None:
    if not _is_public(address) and all(map(_is_public, _addresses(urlsplit(asked).hostname or ""))):
        raise _refusal(what, f"to {address}, an address of a private network")


def _refusal(what: str, where: str) -> UnreachableError:
    return UnreachableError(
        "SourceUnreachable", f"the hub sends us {where}, for {what}; this is not followed: check HF_ENDPOINT"
    )


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return bool(mapped.is_global and not mapped.is_multicast)


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _addresses(host: str) -> list[str]:
    """Return a name's addresses; none where it has none, which whoever connects is told."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(place[0]) for *_, place in found})


def _is_proxied(scheme: str, host: str) -> bool:
    """Whether a proxy makes the connection: it, not we, knows addresses."""
    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)
