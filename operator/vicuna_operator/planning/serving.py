"""The serving stage: which revision should serve, and the next step towards it.

In order: what is there (`servers`), which revision is wanted (`target`), the state of its rollout (`rollout`), how many
pods each revision gets now (`step`). Then what has to be written for that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.api.vllm_rules import heads_fault
from vicuna_operator.planning.actions import Action, Create, NewEvent
from vicuna_operator.planning.capacity import capacity_warnings
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.diagnosis import PodDiagnosis, deadline_of
from vicuna_operator.planning.managed_objects import ManagedObjects, plan_managed_objects
from vicuna_operator.planning.observed import ClaimView, Observed
from vicuna_operator.planning.rollout import (
    CLEARED,
    AnnotationChanges,
    ProgressDeadline,
    Rollout,
    RolloutState,
    evaluate_rollout,
)
from vicuna_operator.planning.scale import decide_scale, with_replicas
from vicuna_operator.planning.scaling import prune, resize
from vicuna_operator.planning.servers import Servers, observe_servers
from vicuna_operator.planning.serving_stage import ServingStage
from vicuna_operator.planning.sizes import LOST_AFTER
from vicuna_operator.planning.step import RolloutStep, decide_step
from vicuna_operator.planning.target import Target, choose_target
from vicuna_operator.planning.verification import claim_annotations
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import claim_name, spec_of
from vicuna_operator.resources.deployment import revision_deployment

__all__ = ["plan_serving"]


def plan_serving(
    model: Model, weights: WeightsStage, seen: Observed, config: PlanConfig, now: datetime
) -> ServingStage:
    """Decide the target revision and the next step of its rollout."""
    servers = observe_servers(model, seen, now)
    fault = heads_fault(spec_of(model).serving, weights.heads)
    target = None
    if weights.artifact_id is not None and not fault:
        target = choose_target(model, weights.artifact_id, weights.digest, servers, config)
    scale = decide_scale(model, target, servers, seen, weights.verification, now)
    if scale is not None:
        model, servers = with_replicas(model, scale.desired), servers.wanting(scale.desired)
    managed = plan_managed_objects(model, seen, config, now, shared_volume=weights.shared_volume)
    if target is None:
        return replace(_kept(weights, servers, managed, seen.claims), fault=fault, scale=scale)
    return replace(_towards(target, model, weights, servers, managed, seen, config, now), scale=scale)


def _towards(
    target: Target,
    model: Model,
    weights: WeightsStage,
    servers: Servers,
    managed: ManagedObjects,
    seen: Observed,
    config: PlanConfig,
    now: datetime,
) -> ServingStage:
    """Take the next step of the target's rollout."""
    rollout, diagnosis = _decide_rollout(model, target, servers, weights.verification, now)
    step = decide_step(model, target, servers, rollout, now)
    created: list[Action] = []
    announced: list[NewEvent] = []
    if target.deployment is None:
        created = [_deployment(model, target, step, config, weights, seen)]
        message = f"revision {target.revision} serves artifact {target.artifact_id}"
        announced = [
            NewEvent("Normal", "RevisionCreated", message),
            *capacity_warnings(model, target.artifact_id, seen),
        ]
    noted = {**_noted(servers, seen.claims), target.revision: _noted_now(model, weights, target.deployment, seen)}
    changes, put_back = _changes(model, target, servers, rollout, step, noted)
    return ServingStage(
        target=target.revision,
        images=target.images,
        active=servers.active,
        fleet=servers.fleet,
        rollout=rollout,
        target_deployment=target.deployment,
        last_known_good=target.last_known_good,
        diagnosis=diagnosis,
        lost=servers.lost,
        pulling=servers.pulling(target.revision),
        sizes=step.sizes,
        superseded=[item for item in servers.live if item is not target.deployment and item.started],
        contested=managed.contested,
        actions=[*managed.actions, *created, *changes],
        new_events=[*managed.new_events, *step.new_events, *announced, *put_back],
        requeue_after=_look_again(servers, managed, rollout, step, now),
    )


def _look_again(
    servers: Servers, managed: ManagedObjects, rollout: Rollout, step: RolloutStep, now: datetime
) -> float | None:
    """Return in how many seconds a deadline, a wait or the grace period of a pod is over."""
    known = (managed.requeue_after, rollout.requeue_after, step.requeue_after)
    waits = [wait for wait in known if wait is not None]
    lost = [pod.ends + LOST_AFTER - now for pod in servers.fleet.terminating if pod.ends is not None]
    return min([*waits, *(left.total_seconds() for left in lost)], default=None)


def _kept(
    weights: WeightsStage, servers: Servers, managed: ManagedObjects, claims: Mapping[str, ClaimView | None]
) -> ServingStage:
    """Let the active revision go on serving, at the stated size, until the new weights are known.

    Pods that only fail to load an artifact that is being verified are stopped: new ones start at once when it is good.
    """
    active, fleet = servers.active, servers.fleet
    stays = active is not None and (fleet.ready(active.revision) > 0 or not weights.verification)
    sizes = fleet.all_on(active.revision) if active and stays else {item.revision: 0 for item in servers.live}
    changes, put_back = resize(servers.live, sizes, _noted(servers, claims))
    return ServingStage(
        target=None,
        images=None,
        active=active,
        fleet=fleet,
        sizes=sizes,
        contested=managed.contested,
        actions=[*managed.actions, *changes],
        new_events=[*managed.new_events, *put_back],
        requeue_after=managed.requeue_after,
    )


def _noted(servers: Servers, claims: Mapping[str, ClaimView | None]) -> Mapping[str, AnnotationChanges]:
    """Return what Deployments of earlier versions have yet to record about their claims."""
    return {item.revision: claim_annotations(item.meta, claims.get(item.claim)) for item in servers.live}


def _decide_rollout(
    model: Model, target: Target, servers: Servers, verification: str, now: datetime
) -> tuple[Rollout, PodDiagnosis | None]:
    """Return the rollout's state, and the diagnosis of the revision that should serve: after a rollback, the former."""
    diagnosis = servers.diagnose(model, target.revision)
    serving = servers.active is not None and servers.active is target.deployment
    limit = _progress_deadline(model, target, servers, diagnosis)
    rollout = evaluate_rollout(
        model,
        target.deployment,
        target.last_known_good,
        servers.fleet,
        limit,
        now,
        serving=serving,
        verification=verification,
    )
    if rollout.state is RolloutState.ROLLED_BACK and target.last_known_good is not None:
        diagnosis = servers.diagnose(model, target.last_known_good.revision)
    return rollout, diagnosis


def _progress_deadline(
    model: Model, target: Target, servers: Servers, diagnosis: PodDiagnosis | None
) -> ProgressDeadline:
    """Return when the rollout is overdue.

    The first rollout of a model replaces no other revision: it is reported as stalled also while it only waits.
    """
    deployment, rollout = target.deployment, spec_of(model).serving.rollout
    if deployment is None or deployment.started is None:
        return ProgressDeadline()
    deadline, started = rollout.progress_deadline_seconds, deployment.started
    waited = (
        bool(deployment.waiting[1])
        or "Drain" in (deployment.auto_strategy, rollout.strategy)
        or rollout.strategy == "Recreate"
    )
    pods, events = servers.fleet.pods, servers.events
    overdue = deadline_of(target.revision, pods, events, started=started, deadline=deadline, has_waited=waited)
    if target.last_known_good is None and overdue is None:
        return ProgressDeadline(started + timedelta(seconds=deadline), diagnosis)
    return ProgressDeadline(overdue, servers.diagnose_placed(model, target.revision))


def _deployment(
    model: Model, target: Target, step: RolloutStep, config: PlanConfig, weights: WeightsStage, seen: Observed
) -> Create:
    claim = seen.claims.get(claim_name(model))
    known = {c.ANNOTATION_VERIFY: weights.verification} if weights.verification else {}
    known |= {c.ANNOTATION_ATTENTION_HEADS: weights.heads.noted} if weights.heads is not None else {}
    body = revision_deployment(
        model,
        revision=target.revision,
        artifact_id=target.artifact_id,
        digest=target.digest,
        image=target.images.server,
        engine_image=target.images.engine,
        pull_policy=spec_of(model).serving.image_pull_policy or config.server_image_pull_policy,
        replicas=step.sizes[target.revision],
        shared_volume=weights.shared_volume,
        platform_user=config.platform_user,
        gateway_keys=config.gateway_keys,
        chat_template=weights.chat_template,
        claim_uid=claim.meta.uid if claim is not None else "",
        annotations={key: value for key, value in {**step.annotations, **known}.items() if value is not None},
    )
    return Create(body)


def _noted_now(
    model: Model, weights: WeightsStage, deployment: DeploymentView | None, seen: Observed
) -> AnnotationChanges:
    """Return what the target has yet to record about its claim and its artifact's verification: Jobs may be deleted."""
    if deployment is None:
        return {}
    claim = seen.claims.get(claim_name(model))
    uid = claim.meta.uid if claim is not None and not claim.meta.deleting else None
    now = {c.ANNOTATION_CLAIM_UID: uid, c.ANNOTATION_VERIFY: weights.verification or None}
    return {key: value for key, value in now.items() if value and deployment.meta.annotations.get(key) != value}


def _changes(
    model: Model,
    target: Target,
    servers: Servers,
    rollout: Rollout,
    step: RolloutStep,
    noted: Mapping[str, AnnotationChanges],
) -> tuple[Sequence[Action], Sequence[NewEvent]]:
    """Write sizes and annotations to existing Deployments, and delete the oldest idle ones.

    `noted` has an entry, maybe an empty one, for each of them and for the target.
    """
    others = [item for item in servers.live if item is not target.deployment]
    leftovers = {item.revision: CLEARED for item in others if item.started or item.failed}
    specific = {**leftovers, target.revision: {**target.annotations(model), **step.annotations}}
    annotations = {name: {**known, **specific.get(name, {})} for name, known in noted.items()}
    changes, put_back = resize(servers.live, step.sizes, annotations)
    in_use = [
        target.deployment,
        servers.active,
        None if rollout.state is RolloutState.COMPLETE else target.last_known_good,
    ]
    pruned = prune(servers.live, in_use, step.sizes, spec_of(model).storage.keep_revisions)
    return [*changes, *pruned], put_back
