"""The Deployment of one revision as planning sees it, and what its annotations remember of its rollout.

What must outlive a restart of the operator stands here and not in the status: it is written in one call with the
number of replicas, so that no moment exists in which one is known and the other is not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_operator.api.conditions import parse_time
from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.planning.meta import Body, Meta, conditions_of
from vicuna_operator.resources.identity import revision

__all__ = ["DeploymentView"]


@dataclass(frozen=True)
class DeploymentView:
    """The Deployment of one revision."""

    meta: Meta
    replicas: int  # spec.replicas
    current: int  # pods it has, status.replicas
    ready: int
    image: str  # what its pods run by now, which an admission policy may have rewritten
    refused: str  # why its pods cannot be created (quota, webhook); empty when they can

    @property
    def revision(self) -> str:
        """Return the revision it serves."""
        return self.meta.labels.get(c.LABEL_REVISION, "")

    @property
    def artifact_id(self) -> str:
        """Return the artifact it serves."""
        return self.meta.labels.get(c.LABEL_ARTIFACT_ID, "")

    @property
    def artifact_digest(self) -> str | None:
        """Return the digest that its pods want the artifact's files to have; None where they take any."""
        return self.meta.digest

    def is_made_by(self, spec: VicunaModelSpec, artifact_id: str, image: str) -> bool:
        """Tell whether a spec makes this very revision of an artifact, be it of its first bytes or of later ones."""
        return any(
            self.revision == revision(spec, artifact_id=artifact_id, image=image, digest=digest)
            for digest in dict.fromkeys((None, self.artifact_digest))
        )

    @property
    def merge_key(self) -> str:
        """Return the merge key of its artifact."""
        return self.meta.labels.get(c.LABEL_MERGE_KEY, "")

    @property
    def claim(self) -> str:
        """Return the claim its pods mount."""
        return self.meta.annotations.get(c.ANNOTATION_CLAIM, "")

    @property
    def default_image(self) -> str | None:
        """Return the operator's default image it was made with; None where the spec stated the image.

        Earlier versions noted it only in that the snapshot of the spec states none.
        """
        noted = self.meta.annotations.get(c.ANNOTATION_DEFAULT_IMAGE)
        return noted or (None if self._states_image() else self.image)

    def _states_image(self) -> bool:
        try:
            snapshot = json.loads(self.meta.annotations.get(c.ANNOTATION_SPEC_SNAPSHOT, "{}"))
            return bool(snapshot["serving"]["image"])
        except (KeyError, RecursionError, TypeError, ValueError):
            return False  # in doubt, what runs goes on running

    @property
    def chat_template(self) -> str | None:
        """Return what `auto` came to when the weights were merged, where that was told."""
        return self.meta.annotations.get(c.ANNOTATION_CHAT_TEMPLATE)

    @property
    def draining(self) -> bool:
        """Tell whether this revision's rollout found no room for a surge pod."""
        return self.meta.annotations.get(c.ANNOTATION_ROLLOUT) == "Drain"

    @property
    def started(self) -> datetime | None:
        """Return when the rollout of this revision began; None when none is under way."""
        return self._time(c.ANNOTATION_ROLLOUT_STARTED)

    @property
    def completed(self) -> datetime | None:
        """Return when all its replicas were ready for the first time after its last rollout; None: never."""
        return self._time(c.ANNOTATION_ROLLOUT_COMPLETED)

    @property
    def failed(self) -> Mapping[str, Any] | None:
        """Return why its last rollout was given up: `attempt` and the members of status.lastFailure."""
        try:
            value = json.loads(self.meta.annotations.get(c.ANNOTATION_ROLLOUT_FAILED, "null"))
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    @property
    def set_replicas(self) -> int | None:
        """Return the replicas the operator set last; None where it has not said so."""
        text = self.meta.annotations.get(c.ANNOTATION_REPLICAS, "")
        return int(text) if text.isdecimal() else None

    def _time(self, annotation: str) -> datetime | None:
        text = self.meta.annotations.get(annotation)
        try:
            return parse_time(text) if text else None
        except ValueError:
            return None

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read a Deployment."""
        spec, status = body.get("spec") or {}, body.get("status") or {}
        failure = conditions_of(status).get("ReplicaFailure", {})
        containers = spec.get("template", {}).get("spec", {}).get("containers") or [{}]
        return cls(
            meta=Meta.of(body),
            replicas=int(spec.get("replicas", 1)),
            current=int(status.get("replicas") or 0),
            ready=int(status.get("readyReplicas") or 0),
            image=str(containers[0].get("image", "")),
            refused=str(failure.get("message", "")) if failure.get("status") == "True" else "",
        )
