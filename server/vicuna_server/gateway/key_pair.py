"""The gateway's key pairs, as its Secret holds them: the current, the next and the previous one.

Pods of models get the public keys once, when they are made. So the next pair is made long before it is used: when it
takes over, all pods made since then have its public key already.
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
"""Entries of the Secret: two private keys in PEM, and a public key in the form of servers' settings."""

_MOST_ROTATIONS = 50


@dataclass(frozen=True)
class KeyPairs:
    """The entries of the Secret, and the names of the rotations so far, the latest last."""

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
            InputError: `SigningKeyBroken`; existing entries are never replaced.
        """
        pairs = cls(entries.get(CURRENT, b""), entries.get(NEXT) or None, entries.get(PREVIOUS) or None)
        pairs = replace(pairs, rotations=tuple(rotations))
        pairs.public()
        return pairs

    def entries(self) -> dict[str, bytes]:
        """Return the entries of the Secret."""
        found = {CURRENT: self.current, NEXT: self.next, PREVIOUS: self.previous}
        return {name: value for name, value in found.items() if value is not None}

    def rotated(self, rotation: str) -> "KeyPairs":
        """Return the pairs after a rotation; themselves where it was done already, or none is asked for.

        Earlier rotations count as done, so that going back to an earlier release does not rotate.

        Raises:
            InputError: `SigningKeyBroken`: there is no next key.
        """
        if rotation in ("", *self.rotations):
            return self
        if self.next is None:
            raise InputError(
                "SigningKeyBroken", f"the Secret has no entry {NEXT!r} to rotate to; restore it from a backup"
            )
        before = joined([_public(CURRENT, self.current)]).encode()
        return KeyPairs(self.next, _new(), before, (*self.rotations, rotation)[-_MOST_ROTATIONS:])

    def public(self) -> str:
        """Return the public keys that servers accept, in the form of their settings.

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
        raise InputError(
            "SigningKeyBroken",
            f"the entry {name!r} of the Secret is not an Ed25519 private key in PEM; restore it from a backup",
        )
    return key.public_key().public_bytes_raw()


def _read_public(text: bytes) -> tuple[bytes, ...]:
    try:
        return public_keys(text.decode())
    except ValueError as error:
        raise InputError("SigningKeyBroken", f"the entry {PREVIOUS!r} of the Secret: {error}") from None
