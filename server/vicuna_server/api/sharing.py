"""Whose keys and values a request may go on from: by the gateway's private header, where the server is told to ask."""

import hashlib
import secrets

from starlette.requests import Request

from vicuna_contract.names import SALT_HEADER
from vicuna_contract.serve_arguments import PrefixCache
from vicuna_server.engine.scope import EVERYBODY, CacheScope

__all__ = ["cache_scope"]


def cache_scope(request: Request, sharing: PrefixCache) -> CacheScope:
    """Return the scope of all that a request asks of the engine.

    Args:
        request: Of whose headers the salt is read; those without one, direct callers, share one scope.
        sharing: `PerKey`: within a salt; `Shared`: among all; `Off`: among the answers of the one request alone.
    """
    if sharing == "Shared":
        return EVERYBODY
    if sharing == "Off":
        return CacheScope(secrets.token_hex(16), kept=False)  # not the request's id, which its client can choose
    salt = ",".join(request.headers.getlist(SALT_HEADER))
    # a scope stays as long as its rows: a header of 64 KiB must not
    return CacheScope(hashlib.sha256(salt.encode("latin-1")).hexdigest()) if salt else EVERYBODY
