"""The Deployment of one revision as planning sees it, and what its annotations record of its rollout.

What must outlive a restart of the operator is here and not in the status. Annotations and the number of replicas are
written in one call: a crash cannot come between them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Self

from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.planning.lenient import INT32, moment, parsed, quantity, table, tables, text, whole
from vicuna_operator.planning.meta import Body, Meta, conditions_of
from vicuna_operator.planning.pod_template import PodTemplate
from vicuna_operator.resources.identity import restarted_as, revision
from vicuna_operator.resources.images import Images

__all__ = ["DeploymentView", "uids_on_pods"]

_FAILED = ("attempt", "reason", "message", "pod", "log")
_MOST_OF_AN_IMAGE = 512  # letters, as the status takes them
_PLACEMENT = ("nodeSelector", "affinity", "tolerations", "runtimeClassName", "schedulerName")


@dataclass(frozen=True)
class DeploymentView:
    """The Deployment of one revision."""

    meta: Meta
    replicas: int  # spec.replicas
    current: int  # pods it has, status.replicas
    ready: int
    image: str  # of the server in its pod template, which an admission policy may have rewritten
    refused: str  # why its pods cannot be created (quota, webhook); empty when they can
    resources: frozenset[str] = frozenset()  # names of the resources that each of its pods requests
    placement: str = ""  # what decides on which nodes its pods may run, as canonical JSON
    account: str = ""  # its pods' service account; empty for the namespace's default
    priority: str = ""  # its pods' PriorityClass; empty for the cluster's default
    template: PodTemplate = field(default_factory=PodTemplate)  # what its pods are made from
    engine_image: str | None = None  # of the container with vLLM; None where there is none

    @property
    def images(self) -> dict[str, str]:
        """Return its containers' images by the names they have in the status."""
        return {"image": self.image} | ({"engineImage": self.engine_image} if self.engine_image else {})

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
        """Return the digest that its pods demand of the artifact's files; None where they accept any."""
        return self.meta.digest

    def is_made_by(self, spec: VicunaModelSpec, artifact_id: str, images: Images) -> bool:
        """Tell whether a spec gives this revision, with the artifact's digest or without it."""
        given = partial(revision, spec, artifact_id=artifact_id, image=images.server, engine_image=images.engine)
        return any(self.revision == given(digest=digest) for digest in dict.fromkeys((None, self.artifact_digest)))

    def is_restart_of(self, spec: VicunaModelSpec, artifact_id: str, images: Images) -> bool:
        """Tell whether a spec gives this revision except for the time of a restart."""
        return self.is_made_by(restarted_as(spec, self._restarted()), artifact_id, images)

    def images_for(self, spec: VicunaModelSpec) -> Images | None:
        """Return the images that a spec gives with this revision's defaults; None where it lacks one."""
        return Images.of(spec.serving, self.default_image, self.default_engine_image)

    def _restarted(self) -> str | None:
        annotations = self._snapshot_of_serving().get("podAnnotations")
        found = annotations.get(c.ANNOTATION_RESTARTED) if isinstance(annotations, dict) else None
        return found if isinstance(found, str) else None

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

        Earlier versions did not record it: there, a snapshot without an image means the default.
        """
        noted = self.meta.annotations.get(c.ANNOTATION_DEFAULT_IMAGE)
        return noted or (None if self._states_image() else self.image)

    @property
    def default_engine_image(self) -> str | None:
        """Return the operator's default image of vLLM it was made with; None where the spec stated or needed none."""
        return self.meta.annotations.get(c.ANNOTATION_DEFAULT_ENGINE_IMAGE)

    def _states_image(self) -> bool:
        return bool(self._snapshot_of_serving().get("image"))  # without a snapshot the image counts as the default

    def _snapshot_of_serving(self) -> Mapping[str, Any]:
        return table(parsed(self.meta.annotations.get(c.ANNOTATION_SPEC_SNAPSHOT)), "serving")

    @property
    def chat_template(self) -> str | None:
        """Return what `auto` was resolved to when the weights were merged, where the merge reported it."""
        return self.meta.annotations.get(c.ANNOTATION_CHAT_TEMPLATE)

    @property
    def made_with(self) -> str:
        """Return the recorded fingerprint of the pod template as the API server first stored it; empty: none."""
        return self.meta.annotations.get(c.ANNOTATION_TEMPLATE, "")

    @property
    def altered(self) -> bool:
        """Tell whether somebody has changed the pod template since."""
        return self.template.differs(self.made_with)

    @property
    def auto_strategy(self) -> str:
        """Return the strategy that `Auto` has switched to: Drain, or Surge after a futile Drain; empty: not yet."""
        return self.meta.annotations.get(c.ANNOTATION_ROLLOUT, "")

    @property
    def waiting(self) -> tuple[datetime | None, str]:
        """Return since when its rollout has waited for room, by the operator's clock, and in which situation."""
        since, _, situation = self.meta.annotations.get(c.ANNOTATION_ROLLOUT_WAITING, "").partition(" ")
        return moment(since), situation

    @property
    def started(self) -> datetime | None:
        """Return when the rollout of this revision began; None when none is under way."""
        return moment(self.meta.annotations.get(c.ANNOTATION_ROLLOUT_STARTED, ""))

    @property
    def completed(self) -> datetime | None:
        """Return when all its replicas were ready for the first time after its last rollout; None: never."""
        return moment(self.meta.annotations.get(c.ANNOTATION_ROLLOUT_COMPLETED, ""))

    @property
    def failed(self) -> Mapping[str, Any] | None:
        """Return why its last rollout was given up: `attempt` and the members of status.lastFailure."""
        value = table(parsed(self.meta.annotations.get(c.ANNOTATION_ROLLOUT_FAILED)))
        failure: dict[str, Any] = {key: text(value[key]) for key in _FAILED if text(value.get(key))}
        if not {"attempt", "reason"} <= set(failure):
            return None
        times = {key: format_time(at) for key in ("at", "time") if (at := moment(value.get(key))) is not None}
        code = {"exitCode": whole(value["exitCode"], 1, most=INT32)} if "exitCode" in value else {}
        return {"message": failure["reason"], **failure, **times, **code}

    @property
    def set_replicas(self) -> int | None:
        """Return the replicas that the operator set last; None where it has not recorded them."""
        noted = whole(self.meta.annotations.get(c.ANNOTATION_REPLICAS), -1, most=INT32)
        return noted if noted >= 0 else None

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read a Deployment."""
        spec, status = table(body, "spec"), table(body, "status")
        failure = conditions_of(status).get("ReplicaFailure", {})
        pod = table(spec, "template", "spec")
        containers = tables(pod.get("containers")) or [{}]
        return cls(
            meta=Meta.of(body),
            replicas=whole(spec.get("replicas"), 1, most=INT32),
            current=whole(status.get("replicas"), most=INT32),
            ready=whole(status.get("readyReplicas"), most=INT32),
            image=text(containers[0].get("image"))[:_MOST_OF_AN_IMAGE],
            refused=text(failure.get("message")) if failure.get("status") == "True" else "",
            resources=frozenset(_taken(containers)),
            placement=_placement(pod),
            account=text(pod.get("serviceAccountName")),
            priority=text(pod.get("priorityClassName")),
            template=PodTemplate.of(body),
            engine_image=_image_of(containers, c.ENGINE_CONTAINER),
        )


def _image_of(containers: Sequence[Mapping[str, Any]], name: str) -> str | None:
    found = (text(item.get("image"))[:_MOST_OF_AN_IMAGE] for item in containers if item.get("name") == name)
    return next(found, None)


def uids_on_pods(uid: str, deployments: Iterable[DeploymentView]) -> frozenset[str]:
    """Return the uids that a model's pods are labelled with: its own and, of adopted Deployments, its predecessor's."""
    return frozenset([uid, *(item.template.model_uid for item in deployments if item.meta.is_child_of(uid))])


def _placement(pod: Mapping[str, Any]) -> str:
    try:
        return json.dumps({key: pod[key] for key in _PLACEMENT if pod.get(key)}, sort_keys=True)
    except RecursionError:
        return ""


def _taken(containers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Name the resources that a pod's containers ask for; a limit alone is a request too."""
    for container in containers:
        for kind in ("requests", "limits"):
            asked = table(container, "resources", kind)
            yield from (name for name, amount in asked.items() if quantity(amount) not in ("", "0"))
