"""The gateway's signature on requests to servers; `vicuna_contract.signing` describes it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from vicuna_contract.signing import ALGORITHM, LIFE_SECONDS, SIGNATURE_HEADER, audience, key_id
from vicuna_server.errors import InputError
from vicuna_server.gateway.catalogue import Model

__all__ = ["Signer", "private_key", "signed"]

_REUSE_SECONDS = 10.0
_MOST_TOKENS = 4096

Headers = Sequence[tuple[str, str]]


class Signer:
    """Makes signed tokens with one key.

    Signing takes 0.1 ms, so one token is used for all requests to one model and path within ten seconds.

    Args:
        key: the private key.
        clock: seconds since the epoch.
    """

    def __init__(self, key: Ed25519PrivateKey, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._head = {"kid": key_id(key.public_key().public_bytes_raw())}
        self._clock = clock
        self._made: dict[tuple[tuple[str, ...], str, str], tuple[str, float]] = {}

    def token(self, model: Model, method: str, path: str) -> str:
        """Return a token for a request to a model's servers."""
        audiences = tuple(audience(model.namespace, model.name, uid) for uid in (model.uid, *model.former_uids))
        place, now = (audiences, method, path), self._clock()
        token, at = self._made.get(place, ("", 0.0))
        if token and 0 <= now - at < _REUSE_SECONDS:
            return token
        if len(self._made) >= _MOST_TOKENS:
            self._made.clear()
        token = self._sign(audiences, method, path, int(now))
        self._made[place] = (token, now)
        return token

    def _sign(self, audiences: tuple[str, ...], method: str, path: str, now: int) -> str:
        claims = {
            "aud": audiences[0] if len(audiences) == 1 else list(audiences),
            "iat": now,
            "exp": now + LIFE_SECONDS,
            "method": method,
            "path": path,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers=self._head)


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key: PEM, PKCS#8, without a password, as from `openssl genpkey -algorithm ed25519`.

    Raises:
        InputError: `SigningKeyBroken`.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InputError(
            "SigningKeyBroken",
            f"--signing-key {path} cannot be read: {error.strerror}; name a file that the gateway may read",
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            "SigningKeyBroken",
            f"--signing-key {path} is not an Ed25519 private key in PEM without a password; "
            "`openssl genpkey -algorithm ed25519` makes one",
        )
    return key


def signed(signer: Signer | None, model: Model, path: str, headers: Headers, method: str = "POST") -> Headers:
    """Return the headers of a request with the gateway's signature, and without one that the client sent."""
    kept = [pair for pair in headers if pair[0].lower() != SIGNATURE_HEADER]
    return kept if signer is None else [*kept, (SIGNATURE_HEADER, signer.token(model, method, path))]
