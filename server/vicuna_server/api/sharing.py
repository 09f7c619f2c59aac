"""Whose keys and values in the cache a request may use, by the gateway's private header and the setting."""

import hashlib
import secrets

from starlette.requests import Request

from vicuna_contract.names import SALT_HEADER
from vicuna_contract.serve_arguments import PrefixCache
from vicuna_server.engine.scope import EVERYBODY, CacheScope

__all__ = ["cache_scope"]


def cache_scope(request: Request, sharing: PrefixCache) -> CacheScope:
    """Return the cache scope of all that a request has the engine compute.

    Args:
        request: The salt is in its headers. Direct callers have no salt and share one scope.
        sharing: `PerKey`: requests of one salt share; `Shared`: all share; `Off`: only one request's choices do.
    """
    if sharing == "Shared":
        return EVERYBODY
    if sharing == "Off":
        return CacheScope(secrets.token_hex(16), kept=False)  # the client could choose the request's id
    salt = ",".join(request.headers.getlist(SALT_HEADER))
    # Hashed, since a scope stays as long as its blocks, and the header may have 64 KiB.
    return CacheScope(hashlib.sha256(salt.encode("latin-1")).hexdigest()) if salt else EVERYBODY
