"""The cache salt of an API key at a model's servers: requests with one salt may share the KV cache."""

import hashlib
import hmac
from collections.abc import Iterable

from vicuna_contract.names import SALT_HEADER
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.keys import Key

__all__ = ["salt_of", "with_salt"]

_DOMAIN = b"vicuna.dev/cache-salt/v1\0"
_LENGTH = 32


def salt_of(key: Key, model: Model) -> str:
    """Return the salt, 32 hex digits; empty where no keys are used.

    All replicas make the same salt, and nobody else can, since it depends on a hash that only the Secret of the keys
    holds. It reveals neither the key nor its hash (HMAC-SHA256). Each model has another salt, since models run images
    of different tenants.
    """
    if not key.name:
        return ""
    model_key = "/".join(model.key).encode(errors="replace")
    return hmac.new(bytes.fromhex(key.sha256), _DOMAIN + model_key, hashlib.sha256).hexdigest()[:_LENGTH]


def with_salt(headers: Iterable[tuple[str, str]], key: Key, model: Model) -> list[tuple[str, str]]:
    """Return a request's headers with the salt of its key, and without a salt that the client sent."""
    kept = [pair for pair in headers if pair[0].lower() != SALT_HEADER]
    salt = salt_of(key, model)
    return [*kept, (SALT_HEADER, salt)] if salt else kept
