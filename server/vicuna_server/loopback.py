"""Whether a URL leads to this machine."""

from ipaddress import ip_address

__all__ = ["is_loopback"]


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is this machine by its name or address, which nothing is asked about.

    Source: https://www.rfc-editor.org/rfc/rfc6761#section-6.3
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
