"""The salt of a key at a model's servers: within it they may use keys and values again."""

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
    """Return the salt, 32 hex; empty where no keys are used.

    All gateways make the same one, and nobody else can: it hangs on the hash that only the Secret of the keys holds. It
    tells nothing of the key nor of its hash (HMAC-SHA256), and each model has another, since the image of one may be a
    stranger to the other.
    """
    if not key.name:
        return ""
    model_key = "/".join(model.key).encode(errors="replace")
    return hmac.new(bytes.fromhex(key.sha256), _DOMAIN + model_key, hashlib.sha256).hexdigest()[:_LENGTH]


def with_salt(headers: Iterable[tuple[str, str]], key: Key, model: Model) -> list[tuple[str, str]]:
    """Return a request's headers with the salt of its key, and without what its client said in that place."""
    kept = [pair for pair in headers if pair[0].lower() != SALT_HEADER]
    salt = salt_of(key, model)
    return [*kept, (SALT_HEADER, salt)] if salt else kept
