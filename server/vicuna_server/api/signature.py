"""Whether a request came through the gateway: the check of its token (`vicuna_contract.signing` says what is in it)."""

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
    """Tells what one of some gateways has signed for this server.

    A gateway uses a token for several requests within seconds, so the last good ones are remembered: to check one takes
    longer than all the rest of a small request's head.

    Args:
        keys: public keys of 32 bytes each.
        audience: whom a token must be for.
    """

    def __init__(self, keys: Iterable[bytes], audience: str) -> None:
        self._keys = {key_id(key): Ed25519PublicKey.from_public_bytes(key) for key in keys}
        self._audience = audience
        self._good: dict[str, tuple[Mapping[str, Any], float]] = {}

    def check(self, token: str, method: str, path: str) -> None:
        """Return if the token lets this request in.

        Raises:
            RequestError: 401, with what to do.
        """
        if not token:
            raise _refused("it has no signature", "gateway_signature_missing")
        claims, until = self._good.get(token) or self._read(token)
        if time.time() > until:
            raise _refused("its signature is over")
        if (claims["method"], claims["path"]) != (method, path):
            raise _refused("its signature is for another request")

    def _read(self, token: str) -> tuple[Mapping[str, Any], float]:
        """Return the claims of a token that is signed and for this server, and when it is over."""
        if len(token) > MOST_TOKEN_CHARACTERS:
            raise _refused("its signature is too long")
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
        except _FAILURES:
            raise _refused("its signature is by a key that this server does not know") from None
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
                raise _refused("its signature is good for too long")
        except RequestError:
            raise
        except _FAILURES as error:
            raise _refused(_why(error)) from None
        self._remember(token, claims, until + SKEW_SECONDS)
        return claims, until + SKEW_SECONDS

    def _remember(self, token: str, claims: Mapping[str, Any], until: float) -> None:
        if len(self._good) >= _MOST_REMEMBERED:
            self._good.pop(next(iter(self._good)))
        self._good[token] = (claims, until)


def _why(error: Exception) -> str:
    if isinstance(error, jwt.InvalidAudienceError):
        return "its signature is for another model"
    if isinstance(error, jwt.ExpiredSignatureError):
        return "its signature is over"
    if isinstance(error, jwt.ImmatureSignatureError):
        return "its signature is of the future: the clocks of gateway and server differ"
    return "its signature is not good"


def _refused(why: str, code: str = "gateway_signature_refused") -> RequestError:
    return RequestError(
        f"this server answers only what comes through the gateway, and this request does not: {why}; "
        "send it to the gateway, with an API key",
        status=401,
        code=code,
    )
