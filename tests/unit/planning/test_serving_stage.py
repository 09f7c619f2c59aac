"""The serving stage by itself: what it makes of what is seen, and everything that it hands on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import Body
from vicuna_contract import names as c
from vicuna_contract.heads import Heads
from vicuna_operator.api.conditions import Reason, format_time
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.planning.actions import Create, Delete, NewEvent, Patch, Ref
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, EventView, ManagedObjectView, Observed
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.rollout import Rollout, RolloutState
from vicuna_operator.planning.serving import plan_serving
from vicuna_operator.planning.serving_stage import ServingStage
from vicuna_operator.planning.sizes import LOST_AFTER
from vicuna_operator.planning.weights_stage import WeightsStage
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.deployment import revision_deployment
from vicuna_operator.resources.identity import revision
from vicuna_operator.resources.images import Images
from vicuna_operator.resources.service import model_service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = "2026-01-01T11:00:00Z"
CONFIG = PlanConfig(server_image="registry.example/server:1")
ARTIFACT = "0123456789abcdef"
WEIGHTS = WeightsStage(ARTIFACT, Reason.MERGED, "merged")
CLAIM = "demo-weights"


def at(seconds: float) -> str:
    return format_time(NOW + timedelta(seconds=seconds))


def a_model(concurrency: int = 32, *, storage: Body | None = None, status: Body | None = None, **serving: Any) -> Model:
    spec: dict[str, Any] = {"storage": storage} if storage else {}
    body = model_body(serving={"replicas": 2, "maxConcurrency": concurrency, **serving}, **spec)
    return parse_model({**body, "status": status or {}})


def name_of(model: Model) -> str:
    """Return the revision that a model's spec makes."""
    return revision(spec_of(model), artifact_id=ARTIFACT, image=CONFIG.server_image)


def deployment(model: Model, *, has: int = 2, set_to: int | None = None, **annotations: str | None) -> DeploymentView:
    """Make the Deployment that this model's spec asks for, as it stands in the cluster; None takes a mark away.

    It has so many replicas; `set_to` are those that the operator set, where somebody has changed them since.
    """
    body: Body = dict(
        revision_deployment(
            model,
            revision=name_of(model),
            artifact_id=ARTIFACT,
            image=CONFIG.server_image,
            pull_policy="IfNotPresent",
            replicas=has,
            shared_volume=False,
            annotations={} if set_to is None else {c.ANNOTATION_REPLICAS: str(set_to)},
            claim_uid="uid-claim",
        )
    )
    marks = {f"vicuna.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    noted = {c.ANNOTATION_TEMPLATE: DeploymentView.of(body).template.noted, **body["metadata"]["annotations"], **marks}
    metadata = {**body["metadata"], "uid": f"uid-{name_of(model)}", "creationTimestamp": EARLIER}
    metadata["annotations"] = {key: value for key, value in noted.items() if value is not None}
    return DeploymentView.of({**body, "metadata": metadata, "status": {"replicas": has}})


def pod(
    model: Model,
    name: str,
    state: str = "ready",
    *,
    created: float = -3000,
    placed: float | None = None,
    ends: float | None = None,
) -> PodView:
    """Make a pod that is ready, loading, crashing or waits for room; times are in seconds after NOW."""
    labels = {c.LABEL_NAME: c.NAME_SERVER, c.LABEL_REVISION: name_of(model), c.LABEL_MODEL_UID: model.uid}
    labels[c.LABEL_ARTIFACT_ID] = ARTIFACT
    metadata: Body = {"name": name, "uid": f"uid-{name}", "labels": labels, "creationTimestamp": at(created)}
    if ends is not None:
        metadata["deletionTimestamp"] = at(ends)
    conditions = [{"type": "Ready", "status": str(state == "ready"), "lastTransitionTime": at(created)}]
    placement: Body = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(placed or created)}
    if state == "pending":
        placement = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
    ended = {"terminated": {"exitCode": 70, "message": "no GPU", "finishedAt": EARLIER}}
    container = {"name": c.SERVER_CONTAINER, "state": ended if state == "crashing" else {"running": {}}}
    status = {"phase": "Running", "conditions": [*conditions, placement], "containerStatuses": [container]}
    spec = {} if state == "pending" else {"nodeName": "n1"}
    return PodView.of({"metadata": metadata, "spec": spec, "status": status})


def claim(uid: str = "uid-claim", *, deleting: bool = False) -> ClaimView:
    ending = {"deletionTimestamp": EARLIER} if deleting else {}
    return ClaimView.of({"metadata": {"name": CLAIM, "uid": uid, **ending}, "status": {"phase": "Bound"}})


def service(model: Model, **spec: Any) -> ManagedObjectView:
    """Make the model's Service; what is given was changed by hand."""
    body = model_service(model)
    return ManagedObjectView.of(
        {**body, "metadata": {**body["metadata"], "uid": "uid-s"}, "spec": {**body["spec"], **spec}}
    )


def staged(
    model: Model,
    *,
    live: Sequence[DeploymentView] = (),
    pods: Sequence[PodView] = (),
    weights: WeightsStage = WEIGHTS,
    config: PlanConfig = CONFIG,
    **seen: Any,
) -> ServingStage:
    known = {"service": service(model), "claims": {CLAIM: claim()}, **seen}
    return plan_serving(model, weights, Observed(deployments=live, pods=pods, **known), config, NOW)


def active(model: Model) -> Body:
    return {"active": {"revision": name_of(model)}}


OLD = a_model(8)
NEW = a_model(32, status=active(OLD))
OTHER = a_model(16)


def patches(stage: ServingStage) -> Mapping[str, Mapping[str, Any]]:
    """Return what is written to which Deployment, by revision."""
    found = [action for action in stage.actions if isinstance(action, Patch) and action.ref.kind == "Deployment"]
    return {action.ref.name.removeprefix("demo-"): action.body for action in found}


def written(stage: ServingStage, model: Model) -> Mapping[str, Any]:
    """Return the marks that are written to a model's revision."""
    marks: Mapping[str, Any] = patches(stage).get(name_of(model), {}).get("metadata", {}).get("annotations", {})
    return {key.removeprefix("vicuna.dev/"): value for key, value in marks.items()}


# what is made


@pytest.mark.parametrize("platform_user", [False, True])
@pytest.mark.parametrize("shared_volume", [False, True])
def test_all_that_is_known_goes_into_a_new_revision(shared_volume: bool, platform_user: bool) -> None:
    digest = f"sha256:{'a' * 64}"
    weights = replace(
        WEIGHTS, chat_template="vicuna_v1.1", digest=digest, verification="l1", shared_volume=shared_volume
    )
    config = PlanConfig("registry.example/server:2", "Always", platform_user=platform_user)
    stage = staged(OLD, weights=weights, config=config)
    named = revision(spec_of(OLD), artifact_id=ARTIFACT, image=config.server_image)
    body = revision_deployment(
        OLD,
        revision=named,
        artifact_id=ARTIFACT,
        digest=digest,
        image="registry.example/server:2",
        pull_policy="Always",
        replicas=2,
        shared_volume=shared_volume,
        platform_user=platform_user,
        chat_template="vicuna_v1.1",
        claim_uid="uid-claim",
        annotations={c.ANNOTATION_ROLLOUT_STARTED: format_time(NOW), c.ANNOTATION_VERIFY: "l1"},
    )
    assert stage.actions == [Create(body)]
    assert stage.new_events == [NewEvent("Normal", "RevisionCreated", f"revision {named} serves artifact {ARTIFACT}")]
    assert (stage.target, stage.images, stage.sizes) == (named, Images("registry.example/server:2"), {named: 2})
    assert (stage.active, stage.target_deployment, stage.last_known_good, stage.diagnosis) == (None, None, None, None)
    assert stage.rollout.state is RolloutState.STARTING


def test_a_revision_with_vllm_has_both_images_and_its_heads_are_kept() -> None:
    model = a_model(engine="vllm", numGpus=4)
    config = PlanConfig("server:1", front_image="front:1", vllm_image="vllm:1")
    stage = staged(model, weights=replace(WEIGHTS, heads=Heads(40, 40)), config=config)
    images = Images("front:1", "vllm:1")
    named = revision(spec_of(model), artifact_id=ARTIFACT, image=images.server, engine_image=images.engine)
    assert (stage.target, stage.images, stage.fault) == (named, images, "")
    (made,) = stage.actions
    assert isinstance(made, Create)
    assert made.body["metadata"]["annotations"][c.ANNOTATION_ATTENTION_HEADS] == "40 40"
    containers = made.body["spec"]["template"]["spec"]["containers"]
    assert [container["image"] for container in containers] == ["front:1", "vllm:1"]


def test_while_the_gpus_do_not_divide_the_heads_what_serves_goes_on() -> None:
    serves = deployment(OLD, has=1)
    model = a_model(status=active(OLD), engine="vllm", numGpus=3)
    stage = staged(model, live=[serves], pods=[pod(OLD, "p1")], weights=replace(WEIGHTS, heads=Heads(40, 40)))
    assert stage.fault.startswith("spec.serving.numGpus: 3 GPUs cannot share the model's 40 attention heads equally")
    assert (stage.target, stage.images, stage.active) == (None, None, serves)
    assert stage.sizes == {name_of(OLD): 2}


def test_what_is_not_known_or_stated_is_left_out_of_a_new_revision() -> None:
    stated = a_model(image_pull_policy="Never", imagePullPolicy="Never")
    (made,) = staged(stated, claims={}).actions
    assert isinstance(made, Create)
    annotations = made.body["metadata"]["annotations"]
    unknown = (c.ANNOTATION_CLAIM_UID, c.ANNOTATION_VERIFY, c.ANNOTATION_CHAT_TEMPLATE, c.ANNOTATION_ATTENTION_HEADS)
    assert not annotations.keys() & {*unknown}
    assert None not in annotations.values()
    (container,) = made.body["spec"]["template"]["spec"]["containers"]
    assert container["imagePullPolicy"] == "Never"


def test_a_revision_that_cannot_fit_is_warned_of_as_it_is_made() -> None:
    done = {c.ANNOTATION_ARTIFACT_BYTES: str(26 * 10**9)}
    metadata = {"name": "demo-merge-0", "labels": {c.LABEL_ARTIFACT_ID: ARTIFACT}, "annotations": done}
    jobs = [JobView.of({"metadata": metadata})]
    assert [note.reason for note in staged(a_model(maxGpuMemory="10Gi"), jobs=jobs).new_events] == [
        "RevisionCreated",
        "GpuMemoryTooSmall",
    ]


def test_managed_objects_are_part_of_it() -> None:
    for made in (staged(OLD, service=None), staged(OLD, service=None, weights=WeightsStage(None, "Merging", ""))):
        assert [action.body["kind"] for action in made.actions if isinstance(action, Create)][:1] == ["Service"]
    for shared, budgets in ((True, 1), (False, 0)):
        made = staged(OLD, weights=replace(WEIGHTS, shared_volume=shared), budgets_offered=True)
        kinds = [action.body["kind"] for action in made.actions if isinstance(action, Create)]
        assert kinds.count("PodDisruptionBudget") == budgets
    peers = staged(OLD, config=PlanConfig("registry.example/server:1", network_peers=[{}]))
    kinds = [action.body["kind"] for action in peers.actions if isinstance(action, Create)]
    assert kinds == ["NetworkPolicy", "Deployment"]


@pytest.mark.parametrize("weights", [WEIGHTS, WeightsStage(None, Reason.MERGING, "")], ids=["serving", "merging"])
def test_what_somebody_changes_beside_it_is_told(weights: WeightsStage) -> None:
    live, pods = [deployment(OLD)], [pod(OLD, "p1"), pod(OLD, "p2")]
    changed = staged(OLD, live=live, pods=pods, service=service(OLD, type="NodePort"), weights=weights)
    (note,) = changed.new_events
    assert (note.type, note.reason) == ("Warning", "PutBack")
    (patch,) = (action for action in changed.actions if isinstance(action, Patch) and action.ref.kind == "Service")
    mark = patch.body["metadata"]["annotations"][c.ANNOTATION_PUT_BACK]
    again = service(OLD, type="NodePort")
    noted = replace(again.meta, annotations={**again.meta.annotations, c.ANNOTATION_PUT_BACK: mark})
    contested = staged(OLD, live=live, pods=pods, service=replace(again, meta=noted), weights=weights)
    assert contested.contested == ["Service demo: spec.type"]
    assert contested.requeue_after == 600
    assert not contested.new_events


# while the weights are not known


MERGING = WeightsStage(None, Reason.MERGING, "")


def test_while_new_weights_merge_what_serves_goes_on_at_the_size_asked_for() -> None:
    serves, other = deployment(OLD, has=1), deployment(OTHER, has=1)
    pods = [pod(OLD, "p1"), pod(OTHER, "p2", "loading")]
    stage = staged(a_model(status=active(OLD)), live=[serves, other], pods=pods, weights=MERGING)
    assert (stage.target, stage.images, stage.rollout) == (None, None, Rollout(RolloutState.IDLE))
    assert stage.active is serves
    assert (set(map(id, stage.fleet.live)), stage.fleet.pods) == ({id(serves), id(other)}, pods)
    assert stage.sizes == {name_of(OLD): 2, name_of(OTHER): 0}
    assert patches(stage)[name_of(OLD)]["spec"] == {"replicas": 2}
    assert patches(stage)[name_of(OTHER)]["spec"] == {"replicas": 0}
    assert (stage.requeue_after, stage.new_events, stage.contested) == (None, [], [])


def test_while_new_weights_merge_whoever_scales_by_hand_is_told() -> None:
    stage = staged(OLD, live=[deployment(OLD, has=5, set_to=2)], pods=[pod(OLD, "p1")], weights=MERGING)
    assert [note.reason for note in stage.new_events] == ["ScaledByHand"]
    assert stage.sizes == {name_of(OLD): 2}


@pytest.mark.parametrize(
    ("state", "verification", "stays"),
    [
        ("ready", "", True),
        ("loading", "", True),
        ("ready", "l1", True),  # an artifact that somebody can load is not a reason to stop
        ("loading", "l1", False),  # it only fails again and again until the artifact is whole
    ],
)
def test_what_only_fails_to_load_stops_while_its_weights_are_verified(
    state: str, verification: str, stays: bool
) -> None:
    model = a_model(status=active(OLD))
    stage = staged(
        model, live=[deployment(OLD)], pods=[pod(OLD, "p1", state)], weights=replace(MERGING, verification=verification)
    )
    assert stage.sizes == {name_of(OLD): 2 if stays else 0}


@pytest.mark.parametrize("weights", [WEIGHTS, MERGING], ids=["serving", "merging"])
def test_deployments_of_earlier_versions_are_told_the_claim_they_are_on(weights: WeightsStage) -> None:
    live = [deployment(OLD, claim_uid=None), deployment(NEW, claim_uid=None)]
    stage = staged(NEW, live=live, pods=[pod(NEW, "p1"), pod(NEW, "p2")], weights=weights)
    assert written(stage, OLD)["claim-uid"] == "uid-claim"
    assert written(stage, NEW)["claim-uid"] == "uid-claim"
    nowhere = staged(NEW, live=live, pods=[pod(NEW, "p1"), pod(NEW, "p2")], weights=weights, claims={})
    assert not {**written(nowhere, OLD), **written(nowhere, NEW)}.keys() & {"claim-uid"}


# what the target remembers


@pytest.mark.parametrize(
    ("known", "verification", "there", "noted"),
    [
        ("uid-claim", "", claim(), {}),
        ("uid-claim", "l1", claim(), {"verify": "l1"}),
        ("uid-before", "", claim(), {"claim-uid": "uid-claim"}),
        ("uid-before", "l1", claim(), {"claim-uid": "uid-claim", "verify": "l1"}),
        ("uid-before", "", claim(deleting=True), {}),
        ("uid-before", "", None, {}),
        ("uid-before", "l1", None, {"verify": "l1"}),
    ],
)
def test_the_target_records_its_claim_and_the_last_verification(
    known: str, verification: str, there: ClaimView | None, noted: Mapping[str, str]
) -> None:
    """Jobs may go, and with them what they knew."""
    fresh = deployment(NEW, rollout_completed=EARLIER, claim_uid=known)
    model, pods = a_model(32, status=active(NEW)), [pod(NEW, "p1"), pod(NEW, "p2")]
    stage = staged(
        model, live=[fresh], pods=pods, weights=replace(WEIGHTS, verification=verification), claims={CLAIM: there}
    )
    assert written(stage, NEW) == noted
    verified = deployment(NEW, rollout_completed=EARLIER, claim_uid=known, verify=verification or None)
    stage = staged(
        model, live=[verified], pods=pods, weights=replace(WEIGHTS, verification=verification), claims={CLAIM: there}
    )
    assert written(stage, NEW) == {key: value for key, value in noted.items() if key != "verify"}


def test_a_default_image_that_a_stated_one_has_become_is_noted() -> None:
    """The field may be taken away again, and the revision is then the same."""
    fresh = deployment(OTHER, rollout_completed=EARLIER, default_image=None)
    snapshot = fresh.meta.annotations[c.ANNOTATION_SPEC_SNAPSHOT].replace('"serving":{', '"serving":{"image":"other",')
    stated = replace(fresh.meta, annotations={**fresh.meta.annotations, c.ANNOTATION_SPEC_SNAPSHOT: snapshot})
    model = a_model(16, status=active(OTHER))
    stage = staged(model, live=[replace(fresh, meta=stated)], pods=[pod(OTHER, "p1"), pod(OTHER, "p2")])
    assert written(stage, OTHER) == {"default-image": CONFIG.server_image}


# in mid-rollout


def test_what_nobody_touches_is_left_alone() -> None:
    live = [deployment(NEW, rollout_completed=EARLIER)]
    stage = staged(a_model(32, status=active(NEW)), live=live, pods=[pod(NEW, "p1"), pod(NEW, "p2")])
    assert (stage.actions, stage.new_events, stage.requeue_after) == ([], [], None)
    assert (stage.rollout, stage.diagnosis, stage.superseded, stage.lost) == (
        Rollout(RolloutState.COMPLETE),
        None,
        [],
        [],
    )
    assert (stage.active, stage.target_deployment, stage.last_known_good) == (live[0], live[0], None)


def test_everything_that_is_found_in_mid_rollout_is_handed_on() -> None:
    old = deployment(OLD, rollout_completed=EARLIER)
    new, other = deployment(NEW, has=1, rollout_started=at(-10)), deployment(OTHER, has=0, rollout_started=EARLIER)
    loads, leaves = pod(NEW, "p3", "loading", created=-9), pod(OTHER, "p4", ends=20)
    gone = pod(OTHER, "p5", ends=-61)
    pods = [pod(OLD, "p1"), pod(OLD, "p2"), loads, leaves, gone]
    events = {"uid-p3": [EventView("Normal", "Pulling", "")]}
    stage = staged(NEW, live=[old, new, other], pods=pods, events=events)
    assert (stage.target, stage.images) == (name_of(NEW), Images(CONFIG.server_image))
    assert (stage.active, stage.target_deployment, stage.last_known_good) == (old, new, old)
    assert stage.rollout == Rollout(RolloutState.PROGRESSING), "an image on its way has no deadline"
    assert (stage.superseded, stage.lost, stage.pulling) == ([other], [gone], [loads])
    assert stage.fleet.pods == [*pods[:4]]
    assert stage.sizes == {name_of(OLD): 2, name_of(NEW): 1, name_of(OTHER): 0}
    assert stage.requeue_after == 20 + LOST_AFTER.total_seconds()
    assert patches(stage) == {
        name_of(OTHER): {
            "metadata": {
                "annotations": {f"vicuna.dev/rollout{mark}": None for mark in ("", "-waiting", "-started", "-failed")}
            }
        }
    }
    assert stage.diagnosis is None


def test_it_looks_again_when_the_first_of_all_waits_is_over() -> None:
    old, new = deployment(OLD, rollout_completed=EARLIER), deployment(NEW, has=1, rollout_started=at(-10))
    serve, loads = [pod(OLD, "p1"), pod(OLD, "p2")], pod(NEW, "p3", "loading", created=-9)
    deadline = spec_of(NEW).serving.rollout.progress_deadline_seconds
    assert staged(NEW, live=[old, new], pods=[*serve, loads]).requeue_after == deadline - 10
    early = pod(OLD, "p4", ends=-50)
    late = pod(OLD, "p5", ends=7200)
    assert staged(NEW, live=[old, new], pods=[*serve, loads, early, late]).requeue_after == 10
    assert staged(NEW, live=[old, new], pods=[*serve, loads, late]).requeue_after == deadline - 10
    waits = pod(NEW, "p3", "pending", created=-9)
    surge_wait = spec_of(NEW).serving.rollout.surge_wait_seconds
    assert staged(NEW, live=[old, new], pods=[*serve, waits]).requeue_after == surge_wait
    assert staged(NEW, live=[old, new], pods=[*serve, waits, early]).requeue_after == 10


def test_what_ails_the_new_revision_is_told_and_after_a_rollback_what_ails_the_good_one() -> None:
    old, new = deployment(OLD, rollout_completed=EARLIER), deployment(NEW, has=1, rollout_started=at(-10))
    crashes, waits = pod(NEW, "p3", "crashing"), pod(OLD, "p2", "pending")
    stage = staged(NEW, live=[old, new], pods=[pod(OLD, "p1"), pod(OLD, "p2"), pod(NEW, "p3", "pending")])
    assert stage.diagnosis is not None
    assert (stage.rollout.state, stage.diagnosis.blocking.reason) == (RolloutState.PROGRESSING, Reason.UNSCHEDULABLE)
    stage = staged(NEW, live=[old, new], pods=[pod(OLD, "p1"), pod(OLD, "p2"), crashes])
    assert (stage.rollout.state, stage.diagnosis) == (RolloutState.ROLLED_BACK, None)
    stage = staged(NEW, live=[old, new], pods=[pod(OLD, "p1"), waits, crashes])
    assert stage.rollout.state is RolloutState.ROLLED_BACK
    assert stage.diagnosis is not None
    assert stage.diagnosis.blocking.reason == Reason.UNSCHEDULABLE
    first = staged(a_model(), live=[new], pods=[crashes])
    assert first.rollout.state is RolloutState.FAILED
    assert first.diagnosis is not None
    assert first.diagnosis.failure is not None


def test_a_verification_tries_again_what_was_given_up() -> None:
    old, new = deployment(OLD, rollout_completed=EARLIER), deployment(NEW, has=1, rollout_started=at(-10))
    serve = [pod(OLD, "p1"), pod(OLD, "p2")]
    failed = written(staged(NEW, live=[old, new], pods=[*serve, pod(NEW, "p3", "crashing")]), NEW)["rollout-failed"]
    back = deployment(NEW, has=0, rollout_failed=failed)
    stage = staged(NEW, live=[old, back], pods=serve)
    assert (stage.rollout.state, stage.actions) == (RolloutState.ROLLED_BACK, [])
    again = staged(NEW, live=[old, back], pods=serve, weights=replace(WEIGHTS, verification="l1"))
    assert again.rollout.state is RolloutState.STARTING
    assert again.sizes == {name_of(OLD): 2, name_of(NEW): 1}


def test_a_model_that_serves_is_at_rest_though_a_pod_of_it_is_replaced() -> None:
    fresh = deployment(NEW, rollout_completed=EARLIER)
    pods = [pod(NEW, "p1"), pod(NEW, "p2", "loading")]
    assert staged(a_model(32, status=active(NEW)), live=[fresh], pods=pods).rollout.state is RolloutState.COMPLETE
    old = deployment(OLD, rollout_completed=EARLIER)
    mixed = [pod(OLD, "p1"), pod(OLD, "p2"), pod(NEW, "p3")]
    assert staged(NEW, live=[fresh, old], pods=mixed).rollout.state is RolloutState.STARTING, "another serves"


def test_the_oldest_idle_revisions_go_but_none_that_is_in_use() -> None:
    model = a_model(32, status=active(NEW), storage={"size": "10Gi", "keepRevisions": 1})
    new = deployment(NEW, rollout_completed=EARLIER)
    idle = [
        deployment(a_model(number), has=0, rollout_completed=f"2026-01-01T0{number}:00:00Z") for number in (1, 2, 3)
    ]
    pods = [pod(NEW, "p1"), pod(NEW, "p2")]
    stage = staged(model, live=[new, *idle], pods=pods)
    gone = [f"demo-{name_of(a_model(number))}" for number in (2, 1)]
    assert stage.actions == [Delete(Ref("apps/v1", "Deployment", name), f"uid-{name[5:]}") for name in gone]
    # while the rollout is not at its end one may have to go back
    under_way = deployment(NEW, has=1, rollout_started=at(-10))
    stage = staged(model, live=[under_way, *idle], pods=[pod(NEW, "p1", "loading")])
    assert stage.last_known_good is idle[2]
    deleted = [action.ref.name for action in stage.actions if isinstance(action, Delete)]
    assert deleted == gone[1:]


@pytest.mark.parametrize("state", list(RolloutState))
def test_a_rollout_is_since_it_began_and_only_while_it_is_under_way(state: RolloutState) -> None:
    fresh = deployment(NEW, rollout_started=EARLIER)
    stage = replace(staged(NEW), rollout=Rollout(state), target_deployment=fresh)
    began = {RolloutState.STARTING: NOW, RolloutState.PROGRESSING: fresh.started, RolloutState.FAILED: fresh.started}
    assert stage.rollout_since(NOW) == began.get(state)
    assert replace(stage, target_deployment=None).rollout_since(NOW) == (
        NOW if state is RolloutState.STARTING else None
    )


# its deadline


LIMIT = 100
ROLLOUT: Mapping[str, Any] = {"progressDeadlineSeconds": LIMIT}


def overdue(
    stated: Mapping[str, Any],
    state: str,
    *,
    created: float,
    placed: float | None = None,
    first: bool = False,
    **marks: Any,
) -> tuple[float | None, RolloutState]:
    """Return in how many seconds a rollout that began a minute ago is overdue, and where it stands."""
    model = a_model(32, status={} if first else active(OLD), rollout={**ROLLOUT, **stated})
    new = deployment(model, has=1, rollout_started=at(-60), **marks)
    old = [] if first else [deployment(OLD, rollout_completed=EARLIER)]
    pods = [] if first else [pod(OLD, "p1"), pod(OLD, "p2")]
    stage = staged(model, live=[*old, new], pods=[*pods, pod(model, "p3", state, created=created, placed=placed)])
    return stage.rollout.requeue_after, stage.rollout.state


@pytest.mark.parametrize(
    ("stated", "marks"),
    [
        ({"strategy": "Drain"}, {}),
        ({"strategy": "Recreate"}, {}),
        ({}, {"rollout": "Drain"}),
        ({}, {"rollout_waiting": f"{EARLIER} 1/2/"}),
    ],
)
def test_where_old_pods_had_to_go_first_the_time_begins_once_a_pod_has_its_place(
    stated: Mapping[str, Any], marks: Mapping[str, Any]
) -> None:
    assert overdue(stated, "loading", created=-10, **marks) == (LIMIT - 10, RolloutState.PROGRESSING)
    assert overdue({**stated, "strategy": "Surge"}, "loading", created=-10) == (LIMIT - 60, RolloutState.PROGRESSING)


@pytest.mark.parametrize("marks", [{}, {"rollout": "Surge"}, {"rollout_waiting": EARLIER}])
def test_where_nothing_was_waited_for_it_begins_with_the_rollout(marks: Mapping[str, Any]) -> None:
    assert overdue({}, "loading", created=-10, **marks) == (LIMIT - 60, RolloutState.PROGRESSING)
    assert overdue({}, "loading", created=-10, placed=-5, **marks) == (LIMIT - 5, RolloutState.PROGRESSING)


def test_only_the_first_rollout_is_overdue_though_it_only_waits() -> None:
    """It takes nothing from anybody, and whoever looks at it wants to know."""
    assert overdue({}, "pending", created=-10) == (None, RolloutState.PROGRESSING)
    assert overdue({}, "pending", created=-10, first=True) == (LIMIT - 60, RolloutState.PROGRESSING)
    late, state = overdue({"progressDeadlineSeconds": 60}, "pending", created=-10, first=True)
    assert (late, state) == (None, RolloutState.FAILED)


def test_what_is_told_at_the_deadline_is_of_the_pods_that_have_a_place() -> None:
    """Unless none has one: then the first rollout says what they all wait for."""
    model = a_model(32, status=active(OLD), rollout={"progressDeadlineSeconds": 60})
    new = deployment(model, rollout_started=at(-60))
    waits, mounts = pod(model, "p3", "pending", created=-10), pod(model, "p4", "loading", created=-60)
    begun = replace(mounts, running=False)
    events = {"uid-p4": [EventView("Warning", "FailedMount", "no volume")]}
    both = [waits, begun]
    serve = [pod(OLD, "p1"), pod(OLD, "p2")]
    live = [deployment(OLD, rollout_completed=EARLIER), new]
    stage = staged(model, live=live, pods=[*serve, *both], events=events)
    assert stage.rollout.failure is not None
    assert stage.rollout.failure["reason"] == Reason.VOLUME_MOUNT_FAILED
    first = staged(model, live=[new], pods=both, events=events)
    assert first.rollout.failure is not None
    assert (first.rollout.state, first.rollout.failure["reason"]) == (RolloutState.FAILED, Reason.VOLUME_MOUNT_FAILED)
    alone = staged(model, live=[new], pods=[waits])
    assert alone.rollout.failure is not None
    assert (alone.rollout.state, alone.rollout.failure["reason"]) == (RolloutState.FAILED, Reason.UNSCHEDULABLE)
