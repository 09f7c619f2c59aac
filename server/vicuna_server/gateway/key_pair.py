"""The gateway's key pairs as its Secret holds them: the one in use, the one that comes next, and the one before.

Pods of models learn public keys once, when they are made. So the next pair is made long before it is used: when it
takes over, all pods that were made since then know it already.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from vicuna_contract.signing import joined, public_keys
from vicuna_server.errors import InputError

__all__ = ["CURRENT", "KeyPairs"]

CURRENT, NEXT, PREVIOUS = "current", "next", "previous-public"
"""Entries of the Secret: two private keys in PEM, and a public key as settings have it."""

_MOST_ROTATIONS = 50


@dataclass(frozen=True)
class KeyPairs:
    """The entries of the Secret, and the words of the rotations that made them what they are, the last one last."""

    current: bytes
    next: bytes | None = None
    previous: bytes | None = None
    rotations: tuple[str, ...] = ()

    @classmethod
    def fresh(cls, rotation: str = "") -> Self:
        """Make two new pairs."""
        return cls(_new(), _new(), rotations=(rotation,) if rotation else ())

    @classmethod
    def of(cls, entries: Mapping[str, bytes], rotations: Iterable[str] = ()) -> Self:
        """Read the entries of a Secret.

        Raises:
            InputError: `SigningKeyBroken`; nothing that is there is ever replaced.
        """
        pairs = cls(entries.get(CURRENT, b""), entries.get(NEXT) or None, entries.get(PREVIOUS) or None)
        pairs = replace(pairs, rotations=tuple(rotations))
        pairs.public()
        return pairs

    def entries(self) -> dict[str, bytes]:
        """Return them as a Secret has them."""
        found = {CURRENT: self.current, NEXT: self.next, PREVIOUS: self.previous}
        return {name: value for name, value in found.items() if value is not None}

    def rotated(self, rotation: str) -> "KeyPairs":
        """Return what they are after a rotation; themselves where it has been done already, or none is asked for.

        A word of long ago counts as done: whoever goes back to an earlier release rotates nothing.

        Raises:
            InputError: `SigningKeyBroken`: there is no next key.
        """
        if rotation in ("", *self.rotations):
            return self
        if self.next is None:
            raise InputError("SigningKeyBroken", f"the Secret has no key {NEXT!r} that could take over")
        before = joined([_public(CURRENT, self.current)]).encode()
        return KeyPairs(self.next, _new(), before, (*self.rotations, rotation)[-_MOST_ROTATIONS:])

    def public(self) -> str:
        """Return the public keys that servers are to accept, as settings have them.

        Raises:
            InputError: `SigningKeyBroken`, with the name of the entry.
        """
        keys = [] if self.previous is None else list(_read_public(self.previous))
        keys.append(_public(CURRENT, self.current))
        if self.next is not None:
            keys.append(_public(NEXT, self.next))
        return joined(keys)


def _new() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(name: str, pem: bytes) -> bytes:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("SigningKeyBroken", f"the Secret's entry {name!r} is no Ed25519 private key in PEM")
    return key.public_key().public_bytes_raw()


def _read_public(text: bytes) -> tuple[bytes, ...]:
    try:
        return public_keys(text.decode())
    except ValueError as error:
        raise InputError("SigningKeyBroken", f"the Secret's entry {PREVIOUS!r}: {error}") from None
