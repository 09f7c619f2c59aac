"""A Job as planning sees it: one attempt to merge, or a clean-up of the volume."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from vicuna_contract import names as c
from vicuna_operator.planning.lenient import INT32, moment, parsed, table, tables, text, whole
from vicuna_operator.planning.meta import Body, Meta, conditions_of

__all__ = ["JobView"]

_MOST_ATTEMPTS = INT32 - 1  # there is always a next one


@dataclass(frozen=True)
class JobView:
    """A Job of a model."""

    meta: Meta
    active: int
    succeeded: bool
    failed: bool
    finished: datetime | None
    deadline: bool = False  # spec.activeDeadlineSeconds is set, as the operator does where only sidecars still run
    condition_reason: str = ""
    condition_message: str = ""
    asked_template: str = ""  # with which --chat-template it runs

    @property
    def is_prune(self) -> bool:
        """Tell whether it is a clean-up and not a merge."""
        return self.meta.labels.get(c.LABEL_NAME) == c.NAME_PRUNE

    @property
    def kept(self) -> Sequence[str]:
        """Return the artifacts that a clean-up leaves."""
        value = parsed(self.meta.annotations.get(c.ANNOTATION_KEPT))
        return [str(item) for item in value] if isinstance(value, list) else ()

    @property
    def quarantined(self) -> Sequence[str]:
        """Return the artifacts whose damaged copies a clean-up removes too."""
        value = parsed(self.meta.annotations.get(c.ANNOTATION_ASIDE))
        return [str(item) for item in value] if isinstance(value, list) else ()

    @property
    def merge_key(self) -> str:
        """Return the merge key this Job was made for."""
        return self.meta.labels.get(c.LABEL_MERGE_KEY, "")

    @property
    def artifact_id(self) -> str | None:
        """Return the artifact this Job published, once the operator has recorded it."""
        return self.meta.labels.get(c.LABEL_ARTIFACT_ID)

    @property
    def artifact_bytes(self) -> int | None:
        """Return the size of that artifact in bytes, where the merge reported it."""
        return whole(self.meta.annotations.get(c.ANNOTATION_ARTIFACT_BYTES)) or None

    @property
    def chat_template(self) -> str | None:
        """Return what `auto` was resolved to, once the operator has recorded it."""
        return self.meta.annotations.get(c.ANNOTATION_CHAT_TEMPLATE)

    @property
    def warnings(self) -> Sequence[tuple[str, str]]:
        """Return the merge's warnings about its artifact: pairs of reason and sentence."""
        value = parsed(self.meta.annotations.get(c.ANNOTATION_WARNINGS))
        pairs = [one for one in value if isinstance(one, list) and len(one) == 2] if isinstance(value, list) else []
        return [(str(reason), str(message)) for reason, message in pairs]

    @property
    def artifact_digest(self) -> str | None:
        """Return the digest of that artifact's files, where the merge reported it."""
        return self.meta.digest

    @property
    def attempt(self) -> int:
        """Return the attempt number, counted from 0 over all Jobs of one merge key."""
        noted = whole(self.meta.annotations.get(c.ANNOTATION_ATTEMPT), -1, most=_MOST_ATTEMPTS)
        # Without a valid annotation, the name's last part has the number too.
        return noted if noted >= 0 else whole(self.meta.name.rpartition("-")[2], most=_MOST_ATTEMPTS)

    @property
    def disrupted(self) -> bool:
        """Tell whether the cluster ended this attempt, for instance by draining its node."""
        return c.ANNOTATION_DISRUPTED in self.meta.annotations

    @property
    def series(self) -> str:
        """Return the hash of what this attempt ran with; attempts of one series share one retry budget."""
        return self.meta.annotations.get(c.ANNOTATION_SERIES, "")

    @property
    def claim(self) -> str:
        """Return the claim the artifact went to."""
        return self.meta.annotations.get(c.ANNOTATION_CLAIM, "")

    @property
    def capacity(self) -> str:
        """Return the claim's capacity when this attempt was created; empty where it was not bound."""
        return self.meta.annotations.get(c.ANNOTATION_CAPACITY, "")

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read a Job."""
        spec, status = table(body, "spec"), table(body, "status")
        ended = {kind: cond for kind, cond in conditions_of(status).items() if cond.get("status") == "True"}
        last = ended.get("Failed") or ended.get("Complete") or {}
        return cls(
            meta=Meta.of(body),
            active=whole(status.get("active")),
            succeeded="Complete" in ended,
            failed="Failed" in ended,
            finished=moment(status.get("completionTime") or last.get("lastTransitionTime")) if last else None,
            deadline=spec.get("activeDeadlineSeconds") is not None,
            condition_reason=text(last.get("reason")),
            condition_message=text(last.get("message")),
            asked_template=_asked_template(body),
        )


def _asked_template(body: Body) -> str:
    """Return the value of --chat-template among the arguments of a Job's container."""
    containers = tables(table(body, "spec", "template", "spec").get("containers"))
    stated = containers[0].get("args") if containers else None
    words = [text(word) for word in stated] if isinstance(stated, list) else []
    place = words.index("--chat-template") + 1 if "--chat-template" in words else len(words)
    return words[place] if place < len(words) else ""
