"""The metadata that planning needs of any object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_contract.heads import Heads
from vicuna_contract.termination import is_digest
from vicuna_operator.api.finalizers import foreign_finalizers
from vicuna_operator.planning.lenient import moment, table, tables, text, texts

__all__ = ["Body", "Meta", "conditions_of"]

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Meta:
    """Name, identity, owner and labels; `annotations` has those of our own group only."""

    name: str
    uid: str
    owner_uid: str | None  # uid of the controller ownerReference
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: datetime | None
    deleting: bool
    finalizers: Sequence[str] = ()  # of others than Kubernetes itself
    owner_model: str = ""  # the name of the VicunaModel that the controller ownerReference names

    @property
    def digest(self) -> str | None:
        """Return the recorded digest of an artifact's files, if there is one."""
        text = self.annotations.get(c.ANNOTATION_ARTIFACT_DIGEST, "")
        return text if is_digest(text) else None

    @property
    def heads(self) -> Heads | None:
        """Return the recorded attention heads of an artifact's model, if they are."""
        return Heads.read(self.annotations.get(c.ANNOTATION_ATTENTION_HEADS, ""))

    @property
    def verification(self) -> str:
        """Return the key of the verification that this object belongs to; empty: none."""
        return self.annotations.get(c.ANNOTATION_VERIFY, "")

    def is_child_of(self, uid: str) -> bool:
        """Tell whether the object belongs to the model with this uid and is not being deleted."""
        return self.owner_uid == uid and not self.deleting

    def is_orphan_of(self, name: str, uid: str) -> bool:
        """Tell whether the object has no controller, or an earlier model of this name as its controller."""
        former = self.owner_model == name and self.owner_uid != uid
        return not self.deleting and (self.owner_uid is None or former)

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read an object's metadata."""
        raw = table(body, "metadata")
        owners = [ref for ref in tables(raw.get("ownerReferences")) if ref.get("controller")]
        owner = owners[0] if owners else None
        of_model = owner is not None and owner.get("kind") == c.KIND
        return cls(
            name=text(raw.get("name")),
            uid=text(raw.get("uid")),
            owner_uid=text(owner.get("uid")) if owner is not None else None,
            owner_model=text(owner.get("name")) if owner is not None and of_model else "",
            labels=texts(raw.get("labels")),
            annotations={key: value for key, value in texts(raw.get("annotations")).items() if key.startswith(c.GROUP)},
            created=moment(raw.get("creationTimestamp")),
            deleting="deletionTimestamp" in raw,
            finalizers=foreign_finalizers(raw.get("finalizers")),
        )


def conditions_of(status: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the conditions of an object's status by their type."""
    return {text(cond.get("type")): cond for cond in tables(status.get("conditions"))}
