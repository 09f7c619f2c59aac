"""Address of the API server and our credentials, as plain values.

kopf opens its own connections: they get these values, so that both always act as the same user.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["Connection", "connection_of"]


@dataclass(frozen=True)
class Connection:
    """Server URL, trust and credentials; files are paths, secrets never show in a repr."""

    server: str
    ca_path: str | None = None
    insecure: bool = False
    authorization: str | None = None  # the whole header: scheme and token
    certificate_path: str | None = None
    private_key_path: str | None = None
    username: str | None = None
    password: str | None = None
    proxy_url: str | None = None

    def __repr__(self) -> str:
        return f"Connection(server={self.server!r})"


async def connection_of(configuration: Any) -> Connection:
    """Read a `kubernetes.aio` configuration, refreshing its token where it knows how to."""
    settings = await configuration.auth_settings()
    bearer = settings.get("BearerToken")
    return Connection(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert or None,
        insecure=not configuration.verify_ssl,
        authorization=str(bearer["value"]) if bearer and bearer.get("value") else None,
        certificate_path=configuration.cert_file or None,
        private_key_path=configuration.key_file or None,
        username=configuration.username or None,
        password=configuration.password or None,
        proxy_url=configuration.proxy or None,
    )
