"""The serving stage: which revision should serve, and how many pods each revision's Deployment should have now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vicuna_operator.api import constants as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Apply, Create, Delete, Note, Patch, Ref
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.observed import DeploymentView, Observed, PodView
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.identity import revision
from vicuna_operator.resources.service import model_service

__all__ = ["ServingStage", "plan_serving", "ready_pods"]


@dataclass(frozen=True)
class ServingStage:
    """What serves, what should serve, and the steps between.

    `active` is the revision whose pods are ready, the one in the status while several are; None before the first.
    """

    target: str | None
    image: str
    active: DeploymentView | None
    deployments: Sequence[DeploymentView]
    pods: Sequence[PodView]
    wanted: int  # replicas in all once the rollout is done
    actions: Sequence[Action] = ()
    notes: Sequence[Note] = ()
    requeue_after: float | None = None


def ready_pods(pods: Sequence[PodView], revision_name: str) -> int:
    """Count a revision's pods that take traffic: ready and not on their way out."""
    return sum(1 for pod in pods if pod.revision == revision_name and pod.ready and not pod.meta.deleting)


def plan_serving(
    model: Model, artifact_id: str | None, seen: Observed, config: PlanConfig, now: datetime, *, shared_volume: bool
) -> ServingStage:
    """Decide the target revision and the next step of its rollout."""
    spec = spec_of(model)
    wanted = 0 if spec.suspend else spec.serving.replicas
    own = [item for item in seen.deployments if item.meta.owner_uid == model.uid]
    live = sorted((item for item in own if not item.meta.deleting), key=_age, reverse=True)
    pods = [pod for pod in seen.pods if pod.is_server and pod.meta.labels.get(c.LABEL_MODEL_UID) == model.uid]
    active = _active(model, live, pods)
    actions = list(_service_step(model, seen))

    if artifact_id is None:
        # Until the new weights are known, what serves goes on serving, at the size asked for.
        actions += _resize(live, {item.revision: wanted if item is active else 0 for item in live})
        return ServingStage(None, "", active, live, pods, wanted, actions=actions)

    image = _image(model, artifact_id, live, config)
    target = revision(spec, artifact_id=artifact_id, image=image)
    fresh = next((item for item in live if item.revision == target), None)
    others = [item for item in live if item.revision != target]
    rollout = _Rollout(model, target, wanted, fresh, others, pods, active, now)
    sizes, drain, requeue = rollout.sizes()
    notes: list[Note] = []
    if fresh is None:
        actions.append(
            Create(
                revision_deployment(
                    model,
                    revision=target,
                    artifact_id=artifact_id,
                    image=image,
                    pull_policy=spec.serving.image_pull_policy or config.server_image_pull_policy,
                    replicas=sizes[target],
                    shared_volume=shared_volume,
                )
            )
        )
        notes.append(Note("Normal", "RevisionCreated", f"revision {target} serves artifact {artifact_id}"))
    elif drain and not fresh.draining:
        body = {"metadata": {"annotations": {c.ANNOTATION_ROLLOUT: "Drain"}}}
        actions.append(Patch(_ref(fresh), fresh.meta.uid, body))
        notes.append(Note("Normal", "NoRoomToSurge", rollout.drain_message()))
    actions += _resize(live, sizes)
    actions += _prune(live, target, active, sizes, spec.storage.keep_revisions)
    return ServingStage(target, image, active, live, pods, wanted, actions, notes, requeue)


@dataclass(frozen=True)
class _Rollout:
    """One look at the way from the old revisions to the target; every number follows from what exists now."""

    model: Model
    target: str
    wanted: int
    fresh: DeploymentView | None
    others: Sequence[DeploymentView]
    pods: Sequence[PodView]
    active: DeploymentView | None
    now: datetime

    @property
    def others_live(self) -> int:
        """Count the pods of other revisions, terminating ones included: each still holds its GPUs."""
        return sum(1 for pod in self.pods if pod.revision != self.target)

    def sizes(self) -> tuple[Mapping[str, int], bool, float | None]:
        """Return replicas by revision, whether the rollout drains, and when to look again."""
        old = {item.revision: 0 for item in self.others}
        if self.active is None or self.active.revision == self.target or self.wanted == 0:
            return {**old, self.target: self.wanted}, False, None
        if self.others_live == 0 and self.active.replicas == 0:
            return {**old, self.target: self.wanted}, False, None
        strategy, requeue = self._strategy()
        ready = ready_pods(self.pods, self.target)
        if strategy == "Surge":
            keep, start = self.wanted - ready, min(self.wanted, ready + 1)
        elif strategy == "Drain":
            keep, start = self.wanted - 1 - ready, min(self.wanted, self.wanted - self.others_live)
        else:
            keep, start = 0, self.wanted if self.others_live == 0 else 0
        old[self.active.revision] = max(0, min(keep, self.wanted))
        return {**old, self.target: max(start, 0)}, strategy == "Drain", requeue

    def _strategy(self) -> tuple[str, float | None]:
        rollout = spec_of(self.model).serving.rollout
        if rollout.strategy != "Auto":
            return rollout.strategy, None
        if self.fresh is not None and self.fresh.draining:
            return "Drain", None
        # The scheduler is asked, not the nodes: a surge pod that finds no place in time makes the rollout drain.
        waiting = [
            (self.now - pod.unscheduled_since).total_seconds()
            for pod in self.pods
            if pod.revision == self.target and pod.unscheduled_since is not None and not pod.meta.deleting
        ]
        if not waiting:
            return "Surge", None
        left = rollout.surge_wait_seconds - max(waiting)
        return ("Surge", left) if left > 0 else ("Drain", None)

    def drain_message(self) -> str:
        """Say what the lack of room means for those who use the model."""
        if self.wanted > 1:
            return f"revision {self.target}: no room for an extra pod, so old pods go one at a time first"
        return f"revision {self.target}: no room for an extra pod, so the only pod stops until the new one is loaded"


def _active(model: Model, live: Sequence[DeploymentView], pods: Sequence[PodView]) -> DeploymentView | None:
    """Find the revision that serves: the noted one while it has ready pods, else the one with most, else the noted."""
    ready = {item.revision: ready_pods(pods, item.revision) for item in live}
    noted = (model.status.get("active") or {}).get("revision")
    last = next((item for item in live if item.revision == noted), None)
    if last is not None and ready[last.revision]:
        return last
    best = max(live, key=lambda item: ready[item.revision], default=None)
    if best is not None and ready[best.revision]:
        return best
    return last


def _image(model: Model, artifact_id: str, live: Sequence[DeploymentView], config: PlanConfig) -> str:
    """Resolve the image once per revision: a revision that exists keeps the default it was made with."""
    spec = spec_of(model)
    if spec.serving.image is not None:
        return spec.serving.image
    noted = [(model.status.get(key) or {}).get("revision") for key in ("target", "active")]
    for item in sorted(live, key=lambda item: noted.index(item.revision) if item.revision in noted else len(noted)):
        if revision(spec, artifact_id=artifact_id, image=item.image) == item.revision:
            return item.image
    return config.server_image


def _service_step(model: Model, seen: Observed) -> list[Action]:
    body = model_service(model)
    service = seen.service
    if service is None:
        return [Create(body)]
    if service.meta.owner_uid != model.uid or service.meta.deleting:
        return []
    wanted = body["metadata"]["annotations"][c.ANNOTATION_APPLIED_HASH]
    return [] if service.meta.annotations.get(c.ANNOTATION_APPLIED_HASH) == wanted else [Apply(body)]


def _resize(live: Sequence[DeploymentView], sizes: Mapping[str, int]) -> list[Action]:
    return [
        Patch(_ref(item), item.meta.uid, {"spec": {"replicas": sizes[item.revision]}})
        for item in live
        if item.replicas != sizes[item.revision]
    ]


def _prune(
    live: Sequence[DeploymentView],
    target: str,
    active: DeploymentView | None,
    sizes: Mapping[str, int],
    keep: int,
) -> list[Action]:
    """Delete what lies too far back; `live` is newest first."""
    idle = [
        item
        for item in live
        if item.revision != target
        and item is not active
        and not (sizes[item.revision] or item.replicas or item.current)
    ]
    return [Delete(_ref(item), item.meta.uid) for item in idle[keep:]]


def _age(item: DeploymentView) -> tuple[str, str]:
    return (item.meta.created.isoformat() if item.meta.created else "", item.meta.name)


def _ref(item: DeploymentView) -> Ref:
    return Ref("apps/v1", "Deployment", item.meta.name)
