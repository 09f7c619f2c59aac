"""Tokens of a gateway as tests want them: right, or wrong in one thing."""

import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from vicuna_contract.signing import key_id

AUDIENCE = "team/tiny/uid-1"
PATH = "/v1/chat/completions"


class Pair:
    """A key pair."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()

    @property
    def pem(self) -> bytes:
        """The private key as a file has it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def token(self, *, ago: float = 0, head: dict[str, Any] | None = None, **claims: Any) -> str:
        """Sign a token, made `ago` seconds ago; keyword arguments replace claims, None leaves one out."""
        made = int(time.time() - ago)
        stated = {"aud": AUDIENCE, "iat": made, "exp": made + 60, "method": "POST", "path": PATH, **claims}
        kept = {name: value for name, value in stated.items() if value is not None}
        return jwt.encode(kept, self.private, algorithm="EdDSA", headers={"kid": key_id(self.public), **(head or {})})
