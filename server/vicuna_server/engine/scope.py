"""Whose request it is, how soon it is wanted, and which requests may share keys and values."""

from dataclasses import dataclass, field

__all__ = ["EVERYBODY", "CacheScope"]


@dataclass(frozen=True, slots=True)
class CacheScope:
    """Requests of equal scopes share what they have in common, and no others do.

    Who shares can find out what others have sent: a prompt that begins alike is answered sooner, and `usage` says how
    much of it was cached. So a scope is for those who may know each other's prompts.

    Attributes:
        salt: Tells scopes apart.
        kept: Whether keys and values outlive the request that they were computed for.
        caller: Whose request it is, for equal shares of the engine; empty: not known. It does not tell scopes apart.
        flex: Whether the caller's other requests go before this one. It does not tell scopes apart.
    """

    salt: str = ""
    kept: bool = True
    caller: str = field(default="", compare=False)
    flex: bool = field(default=False, compare=False)


EVERYBODY = CacheScope()
"""The scope of requests without a tenant."""
