"""The check that a request came through the gateway, by its token (content: `vicuna_contract.signing`)."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vicuna_contract.signing import ALGORITHM, LIFE_SECONDS, MOST_TOKEN_CHARACTERS, SKEW_SECONDS, key_id
from vicuna_server.errors import RequestError

__all__ = ["Signatures"]

_REQUIRED = ("aud", "exp", "iat", "method", "path")
_MOST_REMEMBERED = 256
_FAILURES = (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError, UnsupportedAlgorithm)


class Signatures:
    """Checks that one of the known gateways has signed a request for this server.

    A gateway uses a token for several requests within seconds. The last valid ones are remembered, since checking one
    takes longer than the rest of a small request's head.

    Args:
        keys: Public Ed25519 keys of 32 bytes each.
        audience: The `aud` that a token must have.
    """

    def __init__(self, keys: Iterable[bytes], audience: str) -> None:
        self._keys = {key_id(key): Ed25519PublicKey.from_public_bytes(key) for key in keys}
        self._audience = audience
        self._valid: dict[str, tuple[Mapping[str, Any], float]] = {}

    def check(self, token: str, method: str, path: str) -> None:
        """Return if the token is valid for this method and path.

        Raises:
            RequestError: 401, with the next step.
        """
        if not token:
            raise _refused("this request has no signature", "gateway_signature_missing")
        claims, until = self._valid.get(token) or self._read(token)
        if time.time() > until:
            raise _refused("this request's signature has expired")
        if (claims["method"], claims["path"]) != (method, path):
            raise _refused("this request's signature is for another method or path")

    def _read(self, token: str) -> tuple[Mapping[str, Any], float]:
        """Return the claims of a token that is signed and for this server, and when it expires."""
        if len(token) > MOST_TOKEN_CHARACTERS:
            raise _refused("this request's signature is too long")
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
        except _FAILURES:
            raise _refused("this request's signature is by a key that is not in this server's --gateway-keys") from None
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                leeway=SKEW_SECONDS,
                options={"require": list(_REQUIRED)},
            )
            until, made = float(claims["exp"]), float(claims["iat"])
            if not 0 < until - made <= LIFE_SECONDS:
                raise _refused(f"this request's signature is valid for more than {LIFE_SECONDS} s")
        except RequestError:
            raise
        except _FAILURES as error:
            raise _refused(_why(error)) from None
        self._remember(token, claims, until + SKEW_SECONDS)
        return claims, until + SKEW_SECONDS

    def _remember(self, token: str, claims: Mapping[str, Any], until: float) -> None:
        if len(self._valid) >= _MOST_REMEMBERED:
            self._valid.pop(next(iter(self._valid)))
        self._valid[token] = (claims, until)


def _why(error: Exception) -> str:
    if isinstance(error, jwt.InvalidAudienceError):
        return "this request's signature is for another model"
    if isinstance(error, jwt.ExpiredSignatureError):
        return "this request's signature has expired"
    if isinstance(error, jwt.ImmatureSignatureError):
        return "this request's signature begins in the future, since the clocks of gateway and server differ"
    return "this request's signature is not valid"


def _refused(why: str, code: str = "gateway_signature_refused") -> RequestError:
    return RequestError(
        f"this server takes requests only through the gateway, but {why}; "
        "send the request to the gateway, with an API key",
        status=401,
        code=code,
    )
