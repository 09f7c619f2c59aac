"""Where a rollout stands by what its Deployment remembers and the pods there are; and which revision to go back to."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import Body
from vicuna_contract import names as c
from vicuna_operator.api.conditions import Reason, format_time
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.planning.blocking import BlockingReason
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.diagnosis import PodDiagnosis
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.rollout import (
    ProgressDeadline,
    Rollout,
    RolloutState,
    evaluate_rollout,
    find_last_known_good,
)
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.resources.common import spec_of
from vicuna_operator.resources.identity import rollout_attempt

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER = "2026-01-01T11:00:00Z"
FORGOTTEN = {f"vicuna.dev/rollout{mark}": None for mark in ("", "-waiting", "-started", "-failed")}
BEGUN = {**FORGOTTEN, "vicuna.dev/rollout-started": format_time(NOW)}
DONE = {**FORGOTTEN, "vicuna.dev/rollout-completed": format_time(NOW)}
MODEL_BODY = model_body(serving={"rollout": {"progressDeadlineSeconds": 75}})
MODEL = parse_model(MODEL_BODY)


def attempt(model: Model = MODEL, *, words: str = "") -> str:
    return rollout_attempt(spec_of(model), retry=words)


def deployment(revision: str = "new", *, replicas: int = 2, **marks: str) -> DeploymentView:
    """Make a Deployment with these marks of its rollout; `way` is how it makes room."""
    marks = {("rollout" if mark == "way" else f"rollout-{mark}"): value for mark, value in marks.items()}
    annotations = {f"vicuna.dev/{mark}": value for mark, value in marks.items()}
    metadata = {"name": f"demo-{revision}", "labels": {c.LABEL_REVISION: revision}, "annotations": annotations}
    return DeploymentView.of({"metadata": metadata, "spec": {"replicas": replicas}})


def failed(of: str) -> str:
    return json.dumps({"attempt": of, "reason": "Crashed", "message": "it ended"})


def pod(revision: str, number: int, state: str) -> PodView:
    """Make a pod that is ready, loading, waiting for room, or has crashed for good."""
    metadata = {"name": f"{revision}-{number}", "labels": {c.LABEL_REVISION: revision, c.LABEL_NAME: c.NAME_SERVER}}
    conditions: list[Body] = [{"type": "Ready", "status": str(state == "ready")}]
    if state == "pending":
        conditions.append({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"})
    ended = {"terminated": {"exitCode": 70, "message": "no GPU"}} if state == "crashed" else {"running": {}}
    status = {"conditions": conditions, "containerStatuses": [{"name": c.SERVER_CONTAINER, "state": ended}]}
    return PodView.of(
        {"metadata": metadata, "spec": {"nodeName": "" if state == "pending" else "n1"}, "status": status}
    )


def fleet(wanted: int = 2, *, new: tuple[str, ...] = (), old: tuple[str, ...] = ()) -> Fleet:
    """Make the pods of both revisions, each in its state; the old revision is to have as many as it has."""
    pods = [pod("new", number, state) for number, state in enumerate(new)]
    pods += [pod("old", number, state) for number, state in enumerate(old)]
    return Fleet([deployment("new"), deployment("old", replicas=len(old))], pods, wanted)


OLD = deployment("old", completed=EARLIER)
READY = fleet(new=("ready", "ready"))


def judged(
    fresh: DeploymentView | None,
    ships: Fleet,
    *,
    model: Model = MODEL,
    last_known_good: DeploymentView | None = None,
    limit: ProgressDeadline | None = None,
    serving: bool = False,
    verification: str = "",
) -> Rollout:
    return evaluate_rollout(
        model,
        fresh,
        last_known_good,
        ships,
        limit or ProgressDeadline(),
        NOW,
        serving=serving,
        verification=verification,
    )


@pytest.mark.parametrize("last_known_good", [None, OLD])
def test_a_revision_without_a_deployment_begins_unless_no_pods_are_wanted(
    last_known_good: DeploymentView | None,
) -> None:
    assert judged(None, fleet(1), last_known_good=last_known_good) == Rollout(RolloutState.STARTING, BEGUN)
    assert judged(None, fleet(0), last_known_good=last_known_good) == Rollout(RolloutState.IDLE)


@pytest.mark.parametrize("ships", [READY, fleet(new=("loading",)), fleet(0)], ids=["ready", "loading", "none wanted"])
def test_what_was_given_up_stays_so_while_there_is_something_to_go_back_to(ships: Fleet) -> None:
    fresh = deployment(failed=failed(attempt()), started=EARLIER)
    assert judged(fresh, ships, last_known_good=OLD) == Rollout(RolloutState.ROLLED_BACK, failure=fresh.failed)
    assert judged(fresh, ships).state is not RolloutState.ROLLED_BACK


def test_another_attempt_begins_anew() -> None:
    fresh = deployment(failed=failed(attempt()))
    edited = parse_model(model_body(serving={"rollout": {"progressDeadlineSeconds": 76}}))
    retried = parse_model(
        {**MODEL_BODY, "metadata": {**MODEL_BODY["metadata"], "annotations": {c.ANNOTATION_RETRY: "1"}}}
    )
    begun = Rollout(RolloutState.STARTING, BEGUN)
    for model in (edited, retried):
        assert judged(fresh, fleet(), model=model, last_known_good=OLD) == begun
    assert judged(fresh, fleet(), last_known_good=OLD, verification="look-1") == begun, (
        "its weights were found or made right since"
    )


@pytest.mark.parametrize(
    ("retry", "verification", "words"),
    [("", "", ""), ("again", "", "again"), ("", "l1", " l1"), ("again", "l1", "again l1")],
)
def test_an_attempt_is_known_again_by_later_versions(retry: str, verification: str, words: str) -> None:
    """Else an upgrade of the operator would try again what has failed."""
    metadata = {**MODEL_BODY["metadata"], "annotations": {c.ANNOTATION_RETRY: retry} if retry else {}}
    model = parse_model({**MODEL_BODY, "metadata": metadata})
    fresh = deployment(failed=failed(attempt(model, words=words)))
    assert (
        judged(fresh, fleet(), model=model, last_known_good=OLD, verification=verification).state
        is RolloutState.ROLLED_BACK
    )


@pytest.mark.parametrize(
    ("marks", "forgets"),
    [
        ({}, False),
        ({"completed": EARLIER}, False),
        ({"started": EARLIER}, True),
        ({"failed": failed("another")}, True),
        ({"completed": EARLIER, "started": EARLIER, "failed": failed("another")}, True),
    ],
)
def test_a_rollout_that_nobody_waits_for_is_forgotten(marks: Mapping[str, Any], forgets: bool) -> None:
    for last_known_good in (None, OLD):
        found = judged(deployment(**marks), fleet(0, new=("ready",)), last_known_good=last_known_good, serving=True)
        assert found == Rollout(RolloutState.IDLE, FORGOTTEN if forgets else {})


@pytest.mark.parametrize(
    "marks",
    [
        {},
        {"started": EARLIER},
        {"started": EARLIER, "completed": EARLIER},
        {"failed": failed("another"), "completed": EARLIER},
    ],
)
def test_a_rollout_whose_pods_are_all_ready_is_complete(marks: Mapping[str, Any]) -> None:
    for ships in (READY, fleet(1, new=("ready", "ready")), fleet(new=("ready", "ready"), old=("ready",))):
        assert judged(deployment(**marks), ships, last_known_good=OLD) == Rollout(RolloutState.COMPLETE, DONE)


def test_at_the_end_as_many_as_there_is_room_for_are_all() -> None:
    full = fleet(new=("ready", "pending"))
    assert judged(deployment(started=EARLIER), full) == Rollout(RolloutState.COMPLETE, DONE)
    assert judged(deployment(), full) == Rollout(RolloutState.STARTING, BEGUN), "it has not even begun"
    shared = fleet(new=("ready", "pending"), old=("ready",))
    assert judged(deployment(started=EARLIER), shared).state is RolloutState.PROGRESSING


@pytest.mark.parametrize("new", [("ready", "ready"), ("loading",), ()], ids=["ready", "loading", "no pods"])
def test_once_complete_it_is_not_a_rollout_whatever_becomes_of_its_pods(new: tuple[str, ...]) -> None:
    fresh = deployment(completed=EARLIER)
    assert judged(fresh, fleet(new=new), last_known_good=OLD, serving=True) == Rollout(RolloutState.COMPLETE, {})
    if len(new) < 2:
        begun = Rollout(RolloutState.STARTING, BEGUN)
        assert judged(fresh, fleet(new=new), last_known_good=OLD, serving=False) == begun, "another serves meanwhile"
        assert judged(deployment(), fleet(new=new), last_known_good=OLD, serving=True) == begun, "it never was complete"
        twice = deployment(completed=EARLIER, failed=failed("another"))
        assert judged(twice, fleet(new=new), last_known_good=OLD, serving=True) == begun, "it failed later on"


@pytest.mark.parametrize(
    ("marks", "remembers"),
    [
        ({}, False),
        ({"way": "Drain"}, True),
        ({"waiting": f"{EARLIER} 1/1/"}, True),
        ({"waiting": EARLIER}, False),
        ({"way": "Surge", "waiting": f"{EARLIER} 1/1/"}, True),
    ],
)
def test_how_room_was_made_is_forgotten_once_it_is_shared_with_nobody(
    marks: Mapping[str, Any], remembers: bool
) -> None:
    fresh = deployment(completed=EARLIER, **marks)
    for new in (("ready", "ready"), ("loading",)):
        alone, shared = fleet(new=new), fleet(new=new, old=("ready",))
        assert judged(fresh, alone, serving=True) == Rollout(RolloutState.COMPLETE, FORGOTTEN if remembers else {})
        assert judged(fresh, shared, serving=True) == Rollout(RolloutState.COMPLETE, {})


def test_a_rollout_runs_until_its_deadline_and_asks_to_be_looked_at_then() -> None:
    fresh, ships = deployment(started=EARLIER), fleet(new=("loading",))
    for last_known_good in (None, OLD):
        waits = judged(fresh, ships, last_known_good=last_known_good, limit=ProgressDeadline())
        assert waits == Rollout(RolloutState.PROGRESSING)
        runs = judged(
            fresh, ships, last_known_good=last_known_good, limit=ProgressDeadline(NOW + timedelta(seconds=40))
        )
        assert runs == Rollout(RolloutState.PROGRESSING, requeue_after=40)


LATE = "not ready within 75 s (spec.serving.rollout.progressDeadlineSeconds): no room"
OVERDUE = ProgressDeadline(NOW, PodDiagnosis(BlockingReason(Reason.UNSCHEDULABLE, "no room")))
TOLD = {"reason": "Unschedulable", "message": LATE, "time": format_time(NOW)}


def test_what_has_nothing_to_go_back_to_is_hopeless_and_goes_on() -> None:
    found = judged(deployment(started=EARLIER), fleet(new=("loading",)), limit=OVERDUE)
    assert found == Rollout(RolloutState.FAILED, failure=TOLD)


def given_up(told: Mapping[str, Any], found: Rollout) -> None:
    """See that the reason is told and remembered, and that nothing else of the rollout is."""
    assert found.state is RolloutState.ROLLED_BACK
    assert found.failure == told
    assert found.requeue_after is None
    assert found.annotations.keys() == FORGOTTEN.keys()
    assert {mark for mark, value in found.annotations.items() if value is not None} == {c.ANNOTATION_ROLLOUT_FAILED}
    assert json.loads(found.annotations[c.ANNOTATION_ROLLOUT_FAILED] or "") == told


def test_a_rollout_that_is_overdue_is_given_up_and_says_for_which_attempt_and_when() -> None:
    fresh, ships = deployment(started=EARLIER), fleet(new=("loading",), old=("ready", "ready"))
    told = {**TOLD, "attempt": attempt(), "at": format_time(NOW)}
    given_up(told, judged(fresh, ships, last_known_good=OLD, limit=OVERDUE))
    again = {**TOLD, "attempt": attempt(words=" look-1"), "at": format_time(NOW)}
    given_up(again, judged(fresh, ships, last_known_good=OLD, limit=OVERDUE, verification="look-1"))


def test_a_server_that_cannot_start_is_given_up_before_any_deadline() -> None:
    found = judged(deployment(started=EARLIER), fleet(new=("loading", "crashed")), last_known_good=OLD)
    assert found.failure is not None
    assert (found.failure["pod"], found.failure["exitCode"]) == ("new-1", 70)
    given_up({**found.failure, "attempt": attempt(), "at": format_time(NOW)}, found)
    theirs = judged(deployment(started=EARLIER), fleet(new=("loading",), old=("crashed",)), last_known_good=OLD)
    assert theirs == Rollout(RolloutState.PROGRESSING)


@pytest.mark.parametrize(("letters", "kept"), [(100, 100), (1800, 1800), (3000, 2048)])
def test_a_long_reason_is_cut_before_it_is_noted(letters: int, kept: int) -> None:
    """An object's annotations have 256 KiB together."""
    words = "x" * (letters - len(LATE) + len("no room"))
    limit = ProgressDeadline(NOW, PodDiagnosis(BlockingReason(Reason.UNSCHEDULABLE, words)))
    found = judged(deployment(started=EARLIER), fleet(new=("loading",)), last_known_good=OLD, limit=limit)
    message = LATE.removesuffix("no room") + words
    given_up({**TOLD, "message": message[:kept], "attempt": attempt(), "at": format_time(NOW)}, found)


LATER = "2026-01-01T11:30:00Z"


def test_one_goes_back_to_what_was_complete_last() -> None:
    never, old, newer = deployment("never"), deployment("old", completed=EARLIER), deployment("newer", completed=LATER)
    for live in ([never, old, newer], [newer, old, never]):
        assert find_last_known_good(live, "target", None) is newer
        assert find_last_known_good(live, "target", never) is newer, "what serves was never complete"
        assert find_last_known_good(live, "target", old) is newer
        assert find_last_known_good(live, "newer", None) is old, "the target itself is nothing to go back to"


def test_of_those_complete_at_once_the_one_that_serves_is_better() -> None:
    one, two = deployment("one", completed=EARLIER), deployment("two", completed=EARLIER)
    for active in (one, two):
        assert find_last_known_good([one, two], "target", active) is active
        assert find_last_known_good([two, one], "target", active) is active
    assert find_last_known_good([one, two], "target", None) in (one, two), "either is good where neither serves"


def test_where_none_was_ever_complete_one_goes_back_to_what_serves_if_that_is_another() -> None:
    never, serves, target = deployment("never"), deployment("serves"), deployment("target", completed=LATER)
    assert find_last_known_good([never, serves, target], "target", serves) is serves
    assert find_last_known_good([never, serves, target], "target", None) is None
    assert find_last_known_good([never, target], "target", target) is None
    assert find_last_known_good([target], "target", serves) is None, "it is there no more"
