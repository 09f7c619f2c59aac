"""Which requests may share keys and values."""

from typing import NamedTuple

__all__ = ["EVERYBODY", "CacheScope"]


class CacheScope(NamedTuple):
    """Requests of equal scopes share what they have in common, and no others do.

    Who shares can find out what others have sent: a prompt that begins alike is answered sooner, and `usage` says how
    much of it was cached. So a scope is for those who may know each other's prompts.

    Attributes:
        salt: Tells scopes apart.
        kept: Whether keys and values outlive the request that they were computed for.
    """

    salt: str = ""
    kept: bool = True


EVERYBODY = CacheScope()
"""The scope of requests without a tenant."""
