"""A Deployment's pod template, and whether somebody has changed it since it was made.

Neither generation nor resourceVersion can say so: both change with annotations and replicas. A hash alone would report
a change when a newer API server fills in a field that older ones did not know. Such a field makes the template longer,
and in managedFields no manager but the operator owns a part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_operator.planning.lenient import OBJECT, fingerprint, table, tables, text, whole

__all__ = ["PodTemplate"]

_RESTARTED = "kubectl.kubernetes.io/restartedAt"


@dataclass(frozen=True)
class PodTemplate:
    """The pod template in short: a fingerprint, its number of values, and whether another manager owns one of them."""

    fingerprint: str = ""  # empty where it could not be read
    values: int = 0
    shared: bool = False
    model_uid: str = ""  # the label of its pods

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read a Deployment's, without the annotation of `kubectl rollout restart`, which changes nothing served."""
        template = table(body, "spec", "template")
        annotations = table(template, "metadata", "annotations")
        stated = {key: value for key, value in annotations.items() if key != _RESTARTED}
        metadata = {**table(template, "metadata"), "annotations": stated}
        content = {**template, "metadata": {key: value for key, value in metadata.items() if value}}
        labelled = text(table(metadata, "labels").get(c.LABEL_MODEL_UID))
        return cls(fingerprint(content), _count(content), _is_shared(body), labelled)

    @property
    def noted(self) -> str:
        """Return the text that an annotation records."""
        return f"{self.fingerprint} {self.values}"

    def differs(self, noted: str) -> bool:
        """Tell whether somebody changed it since it was recorded; a malformed record counts as none."""
        known, _, values = noted.partition(" ")
        if not self.fingerprint or len(known) != len(self.fingerprint) or known == self.fingerprint:
            return False
        return self.shared or self.values <= whole(values, self.values)


def _count(value: object) -> int:
    """Count the values in an object, at any depth."""
    found, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, OBJECT):
            left += item.values()
        elif isinstance(item, list):
            left += item
        else:
            found += 1
    return found


def _is_shared(body: Mapping[str, Any]) -> bool:
    """Tell whether another manager than the operator owns a part of the template; True without managedFields."""
    managers = tables(table(body, "metadata").get("managedFields"))
    others = [item for item in managers if text(item.get("manager")) != c.FIELD_MANAGER]
    return not managers or any(map(_owns, others))


def _owns(manager: Mapping[str, Any]) -> bool:
    """Tell whether a manager owns more of the template than the annotation of a restart."""
    template = table(manager, "fieldsV1", "f:spec", "f:template")
    annotations = table(template, "f:metadata", "f:annotations").keys() - {".", f"f:{_RESTARTED}"}
    return "f:spec" in template or bool(annotations) or "f:labels" in table(template, "f:metadata")
