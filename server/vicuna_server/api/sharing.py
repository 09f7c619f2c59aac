"""Whose request it is, by the gateway's private header, and whose keys and values in the cache it may use."""

import hashlib
import secrets

from starlette.requests import Request

from vicuna_contract.names import SALT_HEADER
from vicuna_contract.serve_arguments import PrefixCache
from vicuna_server.engine.scope import CacheScope

__all__ = ["cache_scope", "caller_of"]


def cache_scope(request: Request, sharing: PrefixCache) -> CacheScope:
    """Return the cache scope of all that a request has the engine compute.

    Args:
        request: The salt is in its headers. Direct callers have no salt and share one scope.
        sharing: `PerKey`: requests of one salt share; `Shared`: all share; `Off`: only one request's choices do.
    """
    caller = caller_of(request)
    if sharing == "Off":  # the client could choose the request's id
        return CacheScope(secrets.token_hex(16), kept=False, caller=caller)
    return CacheScope("" if sharing == "Shared" else caller, caller=caller)


def caller_of(request: Request) -> str:
    """Return whose request it is, as far as this server can tell: a hash of its salt; empty where it has none."""
    salt = ",".join(request.headers.getlist(SALT_HEADER))
    # Hashed, since it stays as long as what belongs to it, and the header may have 64 KiB.
    return hashlib.sha256(salt.encode("latin-1")).hexdigest() if salt else ""
