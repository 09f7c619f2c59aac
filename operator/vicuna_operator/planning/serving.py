"""The serving stage: which revision should serve, and the next step towards it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vicuna_operator.api import constants as c
from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, Create, Note
from vicuna_operator.planning.capacity import capacity_notes
from vicuna_operator.planning.companions import companion_actions
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.observed import Observed
from vicuna_operator.planning.rollout import UNMARKED, Marks, Rollout, Stand, judge, last_good
from vicuna_operator.planning.scaling import last_use, prune, resize
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.planning.trouble import Trouble, find_trouble
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.identity import revision

__all__ = ["ServingStage", "plan_serving"]

_IDLE = Rollout(Stand.IDLE)


@dataclass(frozen=True)
class ServingStage:
    """What serves, what should serve, and the steps between.

    `active` is the revision whose pods are ready, the one in the status while several are; None before the first.
    `superseded` are revisions whose rollout ended unfinished because the spec has changed.
    """

    target: str | None
    image: str
    active: DeploymentView | None
    fleet: Fleet
    rollout: Rollout = _IDLE
    fresh: DeploymentView | None = None
    good: DeploymentView | None = None
    trouble: Trouble | None = None
    superseded: Sequence[DeploymentView] = ()
    actions: Sequence[Action] = ()
    notes: Sequence[Note] = ()
    requeue_after: float | None = None

    def rollout_since(self, now: datetime) -> datetime | None:
        """Return when the rollout of the target began; None when none is under way."""
        if self.rollout.stand is Stand.STARTING:
            return now
        under_way = self.rollout.stand in (Stand.RUNNING, Stand.HOPELESS)
        return self.fresh.started if under_way and self.fresh is not None else None


@dataclass(frozen=True)
class _Step:
    """How many pods each revision should have, and how that came about."""

    sizes: Mapping[str, int]
    marks: Marks
    notes: Sequence[Note] = ()
    requeue_after: float | None = None


def plan_serving(
    model: Model, artifact_id: str | None, seen: Observed, config: PlanConfig, now: datetime, *, shared_volume: bool
) -> ServingStage:
    """Decide the target revision and the next step of its rollout."""
    spec = spec_of(model)
    own = [item for item in seen.deployments if item.meta.owner_uid == model.uid]
    live = sorted((item for item in own if not item.meta.deleting), key=_age, reverse=True)
    pods = [pod for pod in seen.pods if pod.is_server and pod.meta.labels.get(c.LABEL_MODEL_UID) == model.uid]
    fleet = Fleet(live, [pod for pod in pods if not pod.over], 0 if spec.suspend else spec.serving.replicas)
    active = _active(model, fleet)
    actions = companion_actions(model, seen, config)

    if artifact_id is None:
        # Until the new weights are known, what serves goes on serving, at the size asked for.
        sizes = fleet.all_on(active.revision) if active else {item.revision: 0 for item in live}
        changes, notes = resize(live, sizes, {})
        return ServingStage(None, "", active, fleet, actions=[*actions, *changes], notes=notes)

    image = _image(model, artifact_id, live, config)
    target = revision(spec, artifact_id=artifact_id, image=image)
    fresh = next((item for item in live if item.revision == target), None)
    good = last_good(live, target, active)
    trouble = find_trouble(spec.serving, target, live, pods, seen.events)
    rollout = judge(model, fresh, good, fleet, trouble, now, serving=active is not None and active is fresh)
    if rollout.stand is Stand.ROLLED_BACK and good is not None:
        step = _Step(fleet.restore(good), rollout.marks)
        trouble = find_trouble(spec.serving, good.revision, live, pods, seen.events)
    else:
        step = _forward(model, target, fleet, rollout, fresh, active, now)
    notes = list(step.notes)
    if fresh is None:
        actions.append(
            Create(
                revision_deployment(
                    model,
                    revision=target,
                    artifact_id=artifact_id,
                    image=image,
                    pull_policy=spec.serving.image_pull_policy or config.server_image_pull_policy,
                    replicas=step.sizes[target],
                    shared_volume=shared_volume,
                    marks={key: value for key, value in step.marks.items() if value is not None},
                )
            )
        )
        notes.append(Note("Normal", "RevisionCreated", f"revision {target} serves artifact {artifact_id}"))
        notes += capacity_notes(model, artifact_id, seen)
    superseded = [item for item in live if item is not fresh and item.started]
    leftovers = {item.revision: UNMARKED for item in live if item is not fresh and (item.started or item.failed)}
    changes, put_back = resize(live, step.sizes, {**leftovers, target: step.marks})
    in_use = [fresh, active, None if rollout.stand is Stand.STEADY else good]
    actions += [*changes, *prune(live, in_use, step.sizes, spec.storage.keep_revisions)]
    waits = [wait for wait in (rollout.requeue_after, step.requeue_after) if wait is not None]
    return ServingStage(
        target,
        image,
        active,
        fleet,
        rollout,
        fresh,
        good,
        trouble,
        superseded,
        actions,
        [*notes, *put_back],
        min(waits) if waits else None,
    )


def _forward(
    model: Model,
    target: str,
    fleet: Fleet,
    rollout: Rollout,
    fresh: DeploymentView | None,
    active: DeploymentView | None,
    now: datetime,
) -> _Step:
    """Take the next step of a rollout, or keep its result in place."""
    base = active if active is not fresh else None
    held = any(item.replicas for item in fleet.live if item is not fresh)
    settled = rollout.stand is Stand.STEADY and not fleet.others_serve(target)
    if fleet.wanted == 0 or settled or not (held or fleet.elsewhere(target)):
        return _Step(fleet.all_on(target), rollout.marks)
    strategy, requeue = _strategy(model, target, fleet, fresh, now)
    drains = strategy == "Drain"
    marks: Marks = dict(rollout.marks)
    notes: list[Note] = []
    if rollout.stand is Stand.STARTING and fleet.others_serve(target) and (note := _outage(model, target, fleet)):
        notes.append(note)
    if drains and fresh is not None and not fresh.draining and rollout.stand is Stand.RUNNING:
        marks = {**marks, c.ANNOTATION_ROLLOUT: "Drain"}
        if spec_of(model).serving.rollout.strategy == "Auto":
            notes.append(Note("Normal", "NoRoomToSurge", _no_room(target, fleet.wanted)))
    return _Step(fleet.roll(target, base, strategy), marks, notes, requeue)


def _strategy(
    model: Model, target: str, fleet: Fleet, fresh: DeploymentView | None, now: datetime
) -> tuple[str, float | None]:
    """Return the strategy that applies now, and after how many seconds that may change."""
    rollout = spec_of(model).serving.rollout
    if rollout.strategy != "Auto":
        return rollout.strategy, None
    if fresh is not None and fresh.draining:
        return "Drain", None
    # The scheduler is asked, not the nodes: a surge pod that finds no place in time makes the rollout drain.
    waited = fleet.longest_unscheduled(target, now)
    if waited is None:
        return "Surge", None
    left = rollout.surge_wait_seconds - waited
    return ("Surge", left) if left > 0 else ("Drain", None)


def _outage(model: Model, target: str, fleet: Fleet) -> Note | None:
    """Announce what the chosen strategy costs; Auto tells once it knows."""
    strategy = spec_of(model).serving.rollout.strategy
    if strategy == "Recreate" or (strategy == "Drain" and fleet.wanted == 1):
        message = (
            f"revision {target}: strategy {strategy} stops every pod first; no answers until the new one is loaded"
        )
        return Note("Warning", "OutageAhead", message)
    return None


def _no_room(target: str, wanted: int) -> str:
    if wanted > 1:
        return f"revision {target}: no room for an extra pod, so old pods go one at a time first"
    return f"revision {target}: no room for an extra pod, so the only pod stops until the new one is loaded"


def _active(model: Model, fleet: Fleet) -> DeploymentView | None:
    """Find the revision that serves: the noted one while it has ready pods, else the one with most, else the noted.

    Where the status is lost, the one that was complete last takes the place of the noted one.
    """
    noted = (model.status.get("active") or {}).get("revision")
    last = next((item for item in fleet.live if item.revision == noted), None)
    if last is not None and fleet.ready(last.revision):
        return last
    best = max(fleet.live, key=lambda item: fleet.ready(item.revision), default=None)
    if best is not None and fleet.ready(best.revision):
        return best
    return last or max((item for item in fleet.live if item.completed), key=last_use, default=None)


def _image(model: Model, artifact_id: str, live: Sequence[DeploymentView], config: PlanConfig) -> str:
    """Resolve the image once per revision: a revision that exists keeps the default it was made with.

    The one that the annotation `vicuna.dev/upgrade` names gives its image up for the present default.
    """
    spec = spec_of(model)
    if spec.serving.image is not None:
        return spec.serving.image
    outdated = model.annotations.get(c.ANNOTATION_UPGRADE)
    noted = [(model.status.get(key) or {}).get("revision") for key in ("target", "active")]
    for item in sorted(live, key=lambda item: noted.index(item.revision) if item.revision in noted else len(noted)):
        fits = revision(spec, artifact_id=artifact_id, image=item.image) == item.revision
        if fits and item.revision != outdated:
            return item.image
    return config.server_image


def _age(item: DeploymentView) -> tuple[str, str]:
    return (item.meta.created.isoformat() if item.meta.created else "", item.meta.name)
