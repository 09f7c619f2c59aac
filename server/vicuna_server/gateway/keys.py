"""API keys: their entries in a Secret, and what each may do.

A key is `vk-` and 43 characters for 32 random bytes. The Secret has one entry per key: its name, and a JSON object

    {"sha256": "<hex of the whole key's sha256>", "models": ["team-a/*"], "requestsPerMinute": 60,
     "tokensPerMinute": 20000, "tokensPerDay": 1000000, "expires": "2027-01-01T00:00:00Z", "defaultNamespace": "team-a"}

of which only `sha256` is required. A plain hash is enough, since nobody can guess 256 random bits. `models` are
patterns of model ids (`*`, `?`, `[…]`), `*` by default. Tokens are those of prompts and completions together. In
`defaultNamespace` a served name without a namespace is looked for first; it grants no access by itself.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vicuna_contract.names import NAMESPACE

__all__ = ["Key", "KeyRing", "hash_of"]

_Limit = Annotated[int, Field(ge=1, le=10**9)]
_DayLimit = Annotated[int, Field(ge=1, le=10**12)]


class Key(BaseModel):
    """One key, without the key itself."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")

    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    models: tuple[str, ...] = ("*",)
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    tokens_per_day: _DayLimit | None = None
    expires: datetime | None = None
    default_namespace: Annotated[str, Field(pattern=rf"^{NAMESPACE.pattern}$")] | None = None

    @cached_property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that its patterns name without a wildcard."""
        parts = (pattern.partition("/") for pattern in self.models)
        return frozenset(namespace for namespace, slash, _ in parts if slash and NAMESPACE.fullmatch(namespace))

    @property
    def names_namespaces(self) -> bool:
        """Whether it says where a served name without a namespace is to be looked for."""
        return bool(self.namespaces) or self.default_namespace is not None

    def may_use(self, model_id: str) -> bool:
        """Whether one of the patterns matches the model's id."""
        return any(fnmatchcase(model_id, pattern) for pattern in self.models)

    def expired(self, now: datetime) -> bool:
        """Whether it has expired; a time without a zone means UTC."""
        if self.expires is None:
            return False
        expires = self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)
        return now >= expires


class KeyRing:
    """All keys of the Secret.

    Attributes:
        broken: entries that are not keys, each with the reason.
    """

    def __init__(self) -> None:
        self._by_hash: dict[str, Key] = {}
        self.broken: dict[str, str] = {}

    @classmethod
    def parse(cls, entries: Mapping[str, bytes]) -> "KeyRing":
        """Read the Secret's entries; a broken one gives no access and does not affect the others."""
        ring = cls()
        for name, content in entries.items():
            try:
                key = _parse(name, content)
            except Exception as error:  # noqa: BLE001  # one broken entry must not invalidate the others
                ring.broken[name] = str(error) or type(error).__name__
            else:
                ring._by_hash[key.sha256] = key
        return ring

    def __len__(self) -> int:
        return len(self._by_hash)

    @property
    def names(self) -> frozenset[str]:
        """The names of all keys."""
        return frozenset(key.name for key in self._by_hash.values())

    def holds(self, key: Key, now: datetime) -> bool:
        """Whether a key that was found before is still valid."""
        current = self._by_hash.get(key.sha256)
        return current is not None and not current.expired(now)

    def find(self, token: str) -> Key | None:
        """Return the key of a token. Only hashes are compared, so the time it takes reveals nothing of the token."""
        digest = hash_of(token)
        key = self._by_hash.get(digest)
        return key if key is not None and hmac.compare_digest(key.sha256, digest) else None


def _parse(name: str, content: bytes) -> Key:
    try:
        return Key.model_validate({"name": name, **_object(content)})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _object(content: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError("the entry is not a JSON object")
    return {field: value for field, value in parsed.items() if field != "name"}


def hash_of(token: str) -> str:
    """Return the hex sha256 by which a key is stored."""
    return hashlib.sha256(token.encode()).hexdigest()
