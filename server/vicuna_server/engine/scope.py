"""Who may go on from whose keys and values."""

from typing import NamedTuple

__all__ = ["EVERYBODY", "CacheScope"]


class CacheScope(NamedTuple):
    """Requests of equal scopes share what they have in common, and no others do.

    Whoever shares can find out what others have asked: a prompt that begins alike is answered sooner, and usage
    tells how much of it was there. So a scope holds those alone who may know of each other.

    Attributes:
        salt: Tells scopes apart.
        kept: Whether keys and values outlive the request that they were computed for.
    """

    salt: str = ""
    kept: bool = True


EVERYBODY = CacheScope()
"""The scope of all who are told apart by nothing."""
