"""What keeps pods from serving, when a rollout is given up for it, and when a pod's Events are read: each by itself."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.memory_kube import Body
from vicuna_contract import names as c
from vicuna_operator.api.conditions import Reason, format_time
from vicuna_operator.api.types import ServingSpec
from vicuna_operator.planning.blocking import BlockingReason
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.diagnosis import PodDiagnosis, deadline_of, diagnose_pods, rollout_failure, unexplained
from vicuna_operator.planning.observed import EventView
from vicuna_operator.planning.pods import PodView

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPEC = ServingSpec()
CRASHED = {"exitCode": 1, "message": "line", "finishedAt": "2026-01-01T11:00:00Z"}


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def pod(
    name: str = "p",
    *,
    revision: str = "r1",
    ready: float | None = None,
    created: float | None = 0,
    placed: float | None = None,
    refused: str = "",
    terminating: bool = False,
    phase: str = "Running",
    disrupted: bool = False,
    **container: Any,
) -> PodView:
    """Make a pod; times are seconds after NOW: since when it is ready, when it was created and got its node."""
    metadata: Body = {"name": name, "uid": f"uid-{name}"}
    metadata["labels"] = {c.LABEL_REVISION: revision, c.LABEL_NAME: c.NAME_SERVER}
    if created is not None:
        metadata["creationTimestamp"] = format_time(at(created))
    if terminating:
        metadata["deletionTimestamp"] = format_time(NOW)
    conditions: list[Body] = []
    if ready is not None:
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": format_time(at(ready))})
    if placed is not None:
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": format_time(at(placed))})
    if refused:
        conditions.append({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": refused})
    if disrupted:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"})
    states = [{"name": c.SERVER_CONTAINER, **container}]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": states}
    return PodView.of({"metadata": metadata, "spec": {} if refused else {"nodeName": "n1"}, "status": status})


def crashing(name: str = "p", *, restarts: int = 0, waits: str = "", **fields: Any) -> PodView:
    """Make a pod whose container has ended before and waits to be started again, or runs again where it does not."""
    state: Body = {"waiting": {"reason": waits}} if waits else {"running": {}}
    return pod(name, state=state, lastState={"terminated": CRASHED}, restartCount=restarts, **fields)


def diagnosis(
    *pods: PodView,
    spec: ServingSpec = SPEC,
    deployments: Sequence[DeploymentView] = (),
    events: Mapping[str, Sequence[EventView]] | None = None,
) -> PodDiagnosis | None:
    return diagnose_pods(spec, "r1", deployments, pods, events or {})


def refused(revision: str, message: str) -> DeploymentView:
    failure = {"type": "ReplicaFailure", "status": "True", "message": message}
    metadata = {"name": f"demo-{revision}", "labels": {c.LABEL_REVISION: revision}}
    return DeploymentView.of({"metadata": metadata, "status": {"conditions": [failure] if message else []}})


def test_a_deployment_that_may_make_no_pods_comes_first() -> None:
    waiting = pod(refused="no room")
    found = diagnosis(waiting, deployments=[refused("r2", "theirs"), refused("r1", "exceeded quota: ours")])
    assert found is not None
    assert found.blocking.reason == Reason.QUOTA_EXCEEDED
    assert found.blocking.message.startswith("exceeded quota: ours; ")
    assert found.failure is None
    for others in ([refused("r2", "exceeded quota: theirs")], [refused("r1", "")], []):
        found = diagnosis(waiting, deployments=others)
        assert found is not None
        assert found.blocking.reason == Reason.UNSCHEDULABLE


def test_the_first_blocked_pod_is_reported() -> None:
    """Those of other revisions, ready ones and those on their way out have nothing to say."""
    silent = [
        crashing("other", revision="r2", waits="CrashLoopBackOff"),
        crashing("serves", ready=0, waits="CrashLoopBackOff"),
        crashing("leaves", terminating=True, waits="CrashLoopBackOff"),
        pod("loads", state={"running": {}}),
    ]
    assert diagnosis(*silent) is None
    first, second = crashing("first", waits="CrashLoopBackOff"), crashing("second", waits="CrashLoopBackOff")
    found = diagnosis(*silent, first, second)
    assert found is not None
    assert found.failure is not None
    assert found.failure.pod == "first"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (ServingSpec(), "asks for 1 nvidia.com/gpu per replica x 1 replicas = 1; "),
        (
            ServingSpec(num_gpus=4, replicas=3, gpu_resource="amd.com/gpu"),
            "asks for 4 amd.com/gpu per replica x 3 replicas = 12; ",
        ),
        (ServingSpec(num_gpus=1, replicas=3), "asks for 1 nvidia.com/gpu per replica x 3 replicas = 3; "),
        (ServingSpec(num_gpus=0, replicas=3), ""),
    ],
)
def test_what_the_scheduler_lacks_stands_beside_what_was_asked_for(spec: ServingSpec, told: str) -> None:
    found = diagnosis(pod(refused="no room"), spec=spec)
    assert found is not None
    step = "free or add nodes that have it, or ask for less"
    assert found == PodDiagnosis(BlockingReason(Reason.UNSCHEDULABLE, f"{told}scheduler: no room; {step}"))
    assert found.step == step


def test_what_else_a_pod_waits_for_is_told_with_its_name() -> None:
    found = diagnosis(pod("p7", state={"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}))
    assert found is not None
    assert found.blocking.reason == Reason.IMAGE_PULL_FAILED
    assert found.blocking.message.startswith("pod p7: manifest unknown; ")


def test_events_are_those_of_the_pod() -> None:
    events = {"uid-p1": [EventView("Warning", "FailedMount", "no volume")]}
    assert diagnosis(pod("p2"), events=events) is None
    found = diagnosis(pod("p2"), pod("p1"), events=events)
    assert found is not None
    assert found.blocking.message.startswith("pod p1: no volume; ")


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (crashing("p7", restarts=2), "pod p7 (restart 2): "),
        (crashing("p7", restarts=2, waits="CrashLoopBackOff"), "pod p7: "),
        (pod("p7", state={"terminated": CRASHED}), "pod p7: "),
        (pod("p7", state={"terminated": CRASHED}, restartCount=1), "pod p7: "),
    ],
)
def test_how_a_container_ended_is_told_with_the_pod_and_its_restart(view: PodView, told: str) -> None:
    found = diagnosis(view)
    assert found is not None
    assert found.failure is not None
    assert (found.failure.exit_code, found.failure.pod) == (1, "p7")
    assert found.blocking == BlockingReason(Reason.CRASHED, f"{told}{found.failure.message}")
    assert found.step == "", "what a container said is not a next step"


def test_a_pod_that_runs_on_its_first_try_has_not_failed_though_it_will_be_taken_away() -> None:
    assert diagnosis(pod(disrupted=True, state={"running": {}})) is None
    found = diagnosis(pod(disrupted=True, state={"running": {}}, restartCount=1))
    assert found is not None
    assert found.blocking.reason == Reason.EVICTED


def ended(
    exit_code: int, *, restarts: int = 0, waits: str = "", said: Body | None = None, oom: bool = False
) -> PodView:
    how = {
        "exitCode": exit_code,
        "message": json.dumps(said) if said else "",
        "reason": "OOMKilled" if oom else "Error",
    }
    state: Body = {"waiting": {"reason": waits}} if waits else {"terminated": how}
    return pod(state=state, lastState={"terminated": how} if waits else {}, restartCount=restarts)


@pytest.mark.parametrize(
    ("view", "hopeless"),
    [
        (pod(state={"running": {}}), False),
        # it says itself that no other try can help
        (ended(64), True),
        (ended(65), True),
        (ended(70), True),
        (ended(137, oom=True), True),
        (ended(70, said={"reason": "Busy", "message": "later", "retryable": True}), False),
        # another try may help, but not for ever
        (ended(1), False),
        (ended(69), False),
        (ended(1, restarts=2), False),
        (ended(1, restarts=3), True),
        (ended(1, restarts=4), True),
        (ended(69, restarts=3), True),
        (ended(1, restarts=1, waits="CrashLoopBackOff"), False),
        (ended(1, restarts=2, waits="CrashLoopBackOff"), True),
        (ended(1, restarts=2, waits="ContainerCreating"), False),
        (ended(70, restarts=3, said={"reason": "Busy", "message": "later", "retryable": True}), True),
    ],
)
def test_a_rollout_is_given_up_at_once_where_no_other_try_can_help(view: PodView, hopeless: bool) -> None:
    found = given_up(view)
    assert (found is not None) is hopeless
    if found is not None:
        how = view.terminated or view.last_terminated
        assert how is not None
        assert (found.pod, found.exit_code) == ("p", how.exit_code)


def given_up(*pods: PodView) -> Any:
    return rollout_failure("r1", pods, None, overdue=None, deadline=600, now=NOW)


def test_only_pods_of_the_revision_that_stay_and_do_not_serve_end_its_rollout() -> None:
    hopeless: Body = {"lastState": {"terminated": {**CRASHED, "exitCode": 70}}, "state": {"running": {}}}
    assert given_up(pod("p1", **hopeless)).pod == "p1"
    silent = [
        pod("other", revision="r2", **hopeless),
        pod("leaves", terminating=True, **hopeless),
        pod("serves", ready=0, **hopeless),
        pod("loads", state={"running": {}}),
    ]
    assert given_up(*silent) is None
    assert given_up(*silent, pod("p1", **hopeless)).pod == "p1"


def overdue(
    *pods: PodView,
    started: float = 0,
    has_waited: bool = False,
    events: Mapping[str, Sequence[EventView]] | None = None,
) -> float | None:
    """Return after how many seconds, counted from NOW, a rollout with 100 s for each progress is overdue."""
    found = deadline_of("r1", pods, events or {}, started=at(started), deadline=100, has_waited=has_waited)
    return None if found is None else (found - NOW).total_seconds()


def test_there_is_no_deadline_while_no_pod_has_what_it_needs() -> None:
    for waits in (
        (),
        (pod(refused="no room"),),
        (pod(ready=5),),
        (pod(terminating=True),),
        (pod(revision="r2", placed=0),),
    ):
        assert overdue(*waits) is None


def test_an_image_on_its_way_is_waited_for() -> None:
    pulls = {"uid-p1": [EventView("Normal", "Pulling", "")]}
    assert overdue(pod("p1", placed=0), events=pulls) is None
    assert overdue(pod("p1", placed=0), pod("p2", placed=0), events=pulls) == 100
    assert overdue(pod("p2", placed=0), pod("p1", placed=0), events={}) == 100


@pytest.mark.parametrize(
    ("created", "placed", "has_waited", "since"),
    [
        # The moment that the scheduler always takes is not progress, else each new pod would begin the time anew.
        (10, 10, False, 0),
        (10, 12, False, 0),
        (10, 13, False, 13),
        (10, 50, False, 50),
        # where others had to make way first, it is
        (10, 10, True, 10),
        (10, 12, True, 12),
        # of a pod that does not say when it was placed, nothing is known but when it was made
        (10, None, False, 0),
        (10, None, True, 10),
        (None, 50, False, 0),
        (None, 50, True, 50),
        (None, None, True, 0),
        # what came before the rollout is none of its progress
        (-50, -40, True, 0),
    ],
)
def test_a_pod_that_had_to_wait_for_its_node_begins_there(
    created: float | None, placed: float | None, has_waited: bool, since: float
) -> None:
    assert overdue(pod(created=created, placed=placed), has_waited=has_waited) == since + 100


def running(name: str = "p", *, since: float, **fields: Any) -> PodView:
    return pod(name, state={"running": {"startedAt": format_time(at(since))}}, **fields)


def test_a_container_that_starts_for_the_first_time_is_progress() -> None:
    assert overdue(running(since=70, placed=0)) == 170
    assert overdue(running(since=70, placed=20, created=0)) == 170
    again = running(since=70, placed=0, restartCount=1)
    assert overdue(again) == 100, "another try of the same container is not"


def test_the_pod_that_got_on_longest_ago_counts_and_the_last_one_that_became_ready() -> None:
    slow, quick = running("slow", since=10), running("quick", since=60)
    assert overdue(slow, quick) == 110
    assert overdue(slow, quick, pod("serves", ready=40)) == 140
    assert overdue(slow, pod("serves", ready=40), pod("too", ready=55)) == 155
    assert overdue(slow, pod("serves", ready=5)) == 110
    assert overdue(slow, pod("theirs", revision="r2", ready=40), running("old", since=5, revision="r2")) == 110
    assert overdue(slow, started=30) == 130


def looked_at(*pods: PodView, after: float, revision: str | None = "r1") -> tuple[list[str], float | None]:
    return unexplained(pods, revision, at(after))


@pytest.mark.parametrize(
    ("view", "allowed"),
    [(pod(placed=0), 3), (pod(placed=0, state={"running": {}}), 30)],
    ids=["not begun", "loading the model"],
)
def test_events_are_read_of_a_pod_that_is_not_ready_after_a_while(view: PodView, allowed: float) -> None:
    assert looked_at(view, after=0) == ([], allowed)
    assert looked_at(view, after=1) == ([], allowed - 1)
    assert looked_at(view, after=allowed - 0.5) == ([], 0.5)
    # and then again and again
    assert looked_at(view, after=allowed) == (["uid-p"], 5)
    assert looked_at(view, after=allowed + 100) == (["uid-p"], 5)


def test_events_tell_nothing_of_other_pods() -> None:
    others = [
        pod(refused="no room"),
        pod(placed=0, created=None),
        pod(placed=0, ready=0),
        pod(placed=0, terminating=True),
        pod(placed=0, phase="Failed"),
        pod(placed=0, revision="r2"),
    ]
    assert looked_at(*others, after=60) == ([], None)
    assert looked_at(*others, pod("p1", placed=0), after=60) == (["uid-p1"], 5)
    assert looked_at(pod(placed=0), after=60, revision=None) == ([], None)


def test_the_next_read_of_events_is_when_the_first_is_due() -> None:
    stuck, young = pod("stuck", placed=0), pod("young", placed=0, created=58)
    loading = pod("loading", placed=0, created=40, state={"running": {}})
    assert looked_at(stuck, young, after=60) == (["uid-stuck"], 1)
    assert looked_at(young, loading, after=60) == ([], 1)
    assert looked_at(loading, stuck, after=60) == (["uid-stuck"], 5)
    assert looked_at(stuck, pod("too", placed=0), after=60) == (["uid-stuck", "uid-too"], 5)
