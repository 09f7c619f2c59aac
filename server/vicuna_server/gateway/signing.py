"""The gateway's signature on what it sends to servers (`vicuna_contract.signing` says what is in it)."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from starlette.responses import Response

from vicuna_contract.signing import ALGORITHM, LIFE_SECONDS, SIGNATURE_HEADER, audience, key_id
from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import InputError, RequestError
from vicuna_server.gateway.catalogue import Model

__all__ = ["Signer", "not_let_in", "private_key", "signed"]

logger = logging.getLogger(__name__)

_REUSE_SECONDS = 10.0
_MOST_TOKENS = 4096

Headers = Sequence[tuple[str, str]]


class Signer:
    """Makes the tokens of one key.

    To sign takes a tenth of a millisecond, so a token serves for all requests to one model and path within ten seconds.

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
        whom = tuple(audience(model.namespace, model.name, uid) for uid in (model.uid, *model.former_uids))
        place, now = (whom, method, path), self._clock()
        token, at = self._made.get(place, ("", 0.0))
        if token and 0 <= now - at < _REUSE_SECONDS:
            return token
        if len(self._made) >= _MOST_TOKENS:
            self._made.clear()
        token = self._sign(whom, method, path, int(now))
        self._made[place] = (token, now)
        return token

    def _sign(self, whom: tuple[str, ...], method: str, path: str, now: int) -> str:
        claims = {
            "aud": whom[0] if len(whom) == 1 else list(whom),
            "iat": now,
            "exp": now + LIFE_SECONDS,
            "method": method,
            "path": path,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers=self._head)


def private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key: PEM, PKCS#8, without a password, as `openssl genpkey -algorithm ed25519` writes it.

    Raises:
        InputError: `SigningKeyBroken`.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InputError("SigningKeyBroken", f"--signing-key {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            "SigningKeyBroken",
            f"--signing-key {path} is no Ed25519 private key in PEM without a password; "
            "`openssl genpkey -algorithm ed25519` makes one",
        )
    return key


def signed(signer: Signer | None, model: Model, path: str, headers: Headers, method: str = "POST") -> Headers:
    """Return the headers of a request with the gateway's signature; never a client's own."""
    kept = [pair for pair in headers if pair[0].lower() != SIGNATURE_HEADER]
    return kept if signer is None else [*kept, (SIGNATURE_HEADER, signer.token(model, method, path))]


def not_let_in(model: Model, url: str) -> Response:
    """Return what a client gets where a server says 401: it has given a good key, so the fault is not the client's."""
    logger.warning(
        "%s of %s refused the gateway itself (401): its pods may hold other public keys, or clocks differ",
        url,
        model.id,
    )
    message = f"the server of {model.id} refused the gateway; whoever runs the gateway finds the reason in its log"
    return error_response(RequestError(message, status=502, code="upstream_refused"))
