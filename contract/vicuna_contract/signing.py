"""How a gateway proves to a server that a request came through it: what both sides, and the operator, must agree on.

The request has a header with a JSON Web Token (RFC 7519), signed by Ed25519 (`EdDSA`, RFC 8037). Its claims:

- `aud`: whom it is for, `namespace/name/uid` of the VicunaModel; a list where pods of a former uid still serve.
- `iat`, `exp`: when it was made and when it is over, at most `LIFE_SECONDS` later, in seconds since the epoch.
- `method`, `path`: of the request.

The header's `kid` names the key. The body is not covered: who can read a request on its way can send another one to the
same model until the token is over. A token is of no use at any other model.
"""

import base64
import binascii
import hashlib
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Final

__all__ = [
    "ALGORITHM",
    "AUDIENCE_VARIABLE",
    "GATEWAY_KEYS_VARIABLE",
    "LIFE_SECONDS",
    "MOST_TOKEN_CHARACTERS",
    "SIGNATURE_HEADER",
    "SKEW_SECONDS",
    "audience",
    "gateway_keys",
    "joined",
    "key_id",
    "key_text",
    "public_keys",
]

SIGNATURE_HEADER: Final = "x-vicuna-signature"
"""Has the token. A gateway replaces whatever a client sent under this name."""
ALGORITHM: Final = "EdDSA"
LIFE_SECONDS: Final = 60
SKEW_SECONDS: Final = 30
"""How far the clocks of gateway and server may be apart."""
MOST_TOKEN_CHARACTERS: Final = 4096

GATEWAY_KEYS_VARIABLE: Final = "VICUNA_GATEWAY_KEYS"
"""Value of a server's `--gateway-keys` where that is not stated; images of earlier versions ignore it."""
AUDIENCE_VARIABLE: Final = "VICUNA_AUDIENCE"
"""Value of a server's `--audience` where that is not stated."""

_KEY_BYTES = 32
_MOST_KEYS = 8


def audience(namespace: str, name: str, uid: str) -> str:
    """Return whom a token is for: the servers of one VicunaModel."""
    return f"{namespace}/{name}/{uid}"


def key_id(key: bytes) -> str:
    """Return the `kid` of a public key: 16 hex of the sha256 of its 32 bytes."""
    return hashlib.sha256(key).hexdigest()[:16]


def key_text(key: bytes) -> str:
    """Return a public key as settings have it: its 32 bytes in base64, 44 characters."""
    return base64.b64encode(key).decode()


def public_keys(text: str) -> tuple[bytes, ...]:
    """Read public keys, separated by commas; each is 32 bytes.

    Raises:
        ValueError: says what is wrong.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not 1 <= len(words) <= _MOST_KEYS:
        raise ValueError(f"1 to {_MOST_KEYS} public keys are needed, separated by commas; there are {len(words)}")
    return tuple(dict.fromkeys(map(_public_key, words)))


def gateway_keys(text: str) -> str:
    """Return the text of a flag if it names public keys."""
    try:
        public_keys(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def joined(keys: Sequence[bytes]) -> str:
    """Return public keys as `public_keys` reads them."""
    return ",".join(map(key_text, keys))


def _public_key(word: str) -> bytes:
    try:
        key = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"{word[:60]!r} is not an Ed25519 public key; give {_KEY_BYTES} bytes in base64")
    return key
