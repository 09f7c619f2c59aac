"""The metadata that planning needs of any object."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_contract.termination import is_digest
from vicuna_operator.api.conditions import parse_time

__all__ = ["Body", "Meta", "conditions_of"]

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Meta:
    """Name, identity, owner and our marks; `annotations` holds those of our own group only."""

    name: str
    uid: str
    owner_uid: str | None  # uid of the controller ownerReference
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: datetime | None
    deleting: bool

    @property
    def digest(self) -> str | None:
        """Return the digest of an artifact's files that is noted, if one is."""
        text = self.annotations.get(c.ANNOTATION_ARTIFACT_DIGEST, "")
        return text if is_digest(text) else None

    def is_child_of(self, uid: str) -> bool:
        """Tell whether the object belongs to the model with this uid, and is there to stay."""
        return self.owner_uid == uid and not self.deleting

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read an object's metadata."""
        raw = body["metadata"]
        owners = [ref["uid"] for ref in raw.get("ownerReferences") or () if ref.get("controller")]
        created = raw.get("creationTimestamp")
        return cls(
            name=raw["name"],
            uid=raw.get("uid", ""),
            owner_uid=owners[0] if owners else None,
            labels=dict(raw.get("labels") or {}),
            annotations={k: v for k, v in (raw.get("annotations") or {}).items() if k.startswith(c.GROUP)},
            created=parse_time(created) if created else None,
            deleting="deletionTimestamp" in raw,
        )


def conditions_of(status: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the conditions of an object's status by their type."""
    return {cond["type"]: cond for cond in status.get("conditions") or ()}
