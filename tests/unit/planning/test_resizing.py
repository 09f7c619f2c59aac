"""What is written to a model's Deployments: replicas and marks in one call, and which idle ones go."""

from collections.abc import Mapping
from typing import Any

import pytest

from support.memory_kube import Body
from vicuna_contract import names as c
from vicuna_operator.planning.actions import Delete, NewEvent, Patch, Ref
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.rollout import AnnotationChanges
from vicuna_operator.planning.scaling import prune, resize


def deployment(
    revision: str = "r1",
    *,
    replicas: int = 0,
    set_to: int | None = None,
    current: int = 0,
    completed: str = "",
    template: Body | None = None,
    noted: str = "",
) -> DeploymentView:
    """Make a Deployment; `set_to` are the replicas that the operator set last, `noted` the template's fingerprint."""
    marks = {
        c.ANNOTATION_REPLICAS: "" if set_to is None else str(set_to),
        c.ANNOTATION_ROLLOUT_COMPLETED: completed,
        c.ANNOTATION_TEMPLATE: noted,
    }
    metadata = {
        "name": f"demo-{revision}",
        "uid": f"uid-{revision}",
        "labels": {c.LABEL_REVISION: revision},
        "annotations": {key: value for key, value in marks.items() if value},
    }
    spec = {"replicas": replicas, "template": template or {}}
    return DeploymentView.of({"metadata": metadata, "spec": spec, "status": {"replicas": current}})


def as_made(**fields: Any) -> DeploymentView:
    """Make a Deployment with nothing to note of its template."""
    return deployment(noted=deployment().template.noted, **fields)


def patch(body: Mapping[str, object]) -> Patch:
    return Patch(Ref("apps/v1", "Deployment", "demo-r1"), "uid-r1", body)


def marked(**marks: str | None) -> Mapping[str, object]:
    return {"annotations": {f"vicuna.dev/{key}": value for key, value in marks.items()}}


@pytest.mark.parametrize(
    ("has", "set_to", "wanted"),
    [
        (2, 2, 3),  # a step
        (2, None, 2),  # of an earlier version, which noted nothing
        (1, None, 2),
        (2, 1, 2),  # somebody did by hand what is wanted anyhow
    ],
)
def test_the_size_is_written_together_with_the_note_of_it(has: int, set_to: int | None, wanted: int) -> None:
    written, told = resize(
        [as_made(replicas=has, **({} if set_to is None else {"set_to": set_to}))], {"r1": wanted}, {}
    )
    assert written == [patch({"spec": {"replicas": wanted}, "metadata": marked(replicas=str(wanted))})]
    assert not told


def test_nothing_is_written_where_nothing_changes() -> None:
    assert resize([as_made(replicas=2, set_to=2)], {"r1": 2}, {"r1": {}}) == ([], [])


def test_annotations_are_written_alone_or_with_the_size() -> None:
    marks: dict[str, AnnotationChanges] = {
        "r1": {"vicuna.dev/rollout": "Drain", "vicuna.dev/claim": None},
        "other": {"vicuna.dev/claim": "c"},
    }
    alone, _ = resize([as_made(replicas=2, set_to=2)], {"r1": 2}, marks)
    assert alone == [patch({"metadata": marked(rollout="Drain", claim=None)})]
    together, _ = resize([as_made(replicas=2, set_to=2)], {"r1": 0}, marks)
    change = marked(rollout="Drain", claim=None, replicas="0")
    assert together == [patch({"spec": {"replicas": 0}, "metadata": change})]


@pytest.mark.parametrize(("by_hand", "wanted"), [(5, 2), (5, 3), (0, 2)])
def test_whoever_scales_a_deployment_by_hand_is_told_what_to_scale_instead(by_hand: int, wanted: int) -> None:
    written, told = resize([as_made(replicas=by_hand, set_to=2)], {"r1": wanted}, {})
    assert written == [patch({"spec": {"replicas": wanted}, "metadata": marked(replicas=str(wanted))})]
    message = f"Deployment demo-r1 was scaled to {by_hand} by hand; scale the VicunaModel instead: it goes back to "
    assert told == [NewEvent("Warning", "ScaledByHand", f"{message}{wanted}")]


def test_each_deployment_is_looked_at_whatever_became_of_the_one_before() -> None:
    others = [deployment(name, replicas=1, set_to=1, noted=deployment().template.noted) for name in ("r0", "r1", "r2")]
    written, _ = resize(others, {"r0": 1, "r1": 2, "r2": 2}, {})
    assert [action.ref.name for action in written if isinstance(action, Patch)] == ["demo-r1", "demo-r2"]


ONE = {"spec": {"containers": [{"name": "server"}]}}
MORE = {"spec": {"containers": [{"name": "server", "stdin": False}]}}
OTHER = {"spec": {"containers": [{"name": "changed"}]}}


@pytest.mark.parametrize(
    ("noted", "now", "new_events"),
    [
        (None, ONE, True),  # at first sight
        (ONE, ONE, False),
        (OTHER, ONE, False),  # changed by hand: it is told until it is put back, never taken for our own
        (MORE, ONE, False),  # somebody took a value away
    ],
)
def test_a_template_is_noted_as_it_was_made_and_no_change_by_hand_is(
    noted: Body | None, now: Body, new_events: bool
) -> None:
    known = deployment(template=noted).template.noted if noted is not None else ""
    item = deployment(replicas=1, set_to=1, template=now, noted=known)
    written, _ = resize([item], {"r1": 1}, {})
    assert written == ([patch({"metadata": marked(**{"template-hash": item.template.noted})})] if new_events else [])


def test_what_a_newer_api_server_fills_in_is_noted() -> None:
    """The template has got longer, and nobody but the operator owns any of it."""
    known = deployment(template=ONE).template.noted
    managers = [{"manager": c.FIELD_MANAGER, "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}}]
    body = {
        "metadata": {
            "name": "demo-r1",
            "uid": "uid-r1",
            "labels": {c.LABEL_REVISION: "r1"},
            "annotations": {c.ANNOTATION_TEMPLATE: known, c.ANNOTATION_REPLICAS: "1"},
            "managedFields": managers,
        },
        "spec": {"replicas": 1, "template": MORE},
    }
    written, _ = resize([DeploymentView.of(body)], {"r1": 1}, {})
    longer = deployment(template=MORE).template.noted
    assert written == [patch({"metadata": marked(**{"template-hash": longer})})]


def test_a_template_that_cannot_be_read_is_not_noted() -> None:
    deep: Body = {}
    for _ in range(2_000):
        deep = {"a": deep}
    item = deployment(replicas=1, set_to=1, template=deep)
    assert not item.template.fingerprint
    assert resize([item], {"r1": 1}, {}) == ([], [])


OLDEST, OLD, NEW = (f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3))


def pruned(*live: DeploymentView, in_use: tuple[DeploymentView | None, ...] = (), keep: int = 0) -> list[str]:
    """Return the revisions that go, in their order."""
    gone = prune(live, in_use, {item.revision: 0 for item in live}, keep)
    assert all(isinstance(action, Delete) and action.ref.kind == "Deployment" for action in gone)
    assert all(isinstance(action, Delete) and action.ref.api_version == "apps/v1" for action in gone)
    assert all(isinstance(action, Delete) and action.uid == f"uid-{action.ref.name[5:]}" for action in gone)
    return [action.ref.name[5:] for action in gone if isinstance(action, Delete)]


def test_what_was_complete_last_is_kept_and_what_never_was_goes_first() -> None:
    never, oldest = deployment("never"), deployment("oldest", completed=OLDEST)
    old, new = deployment("old", completed=OLD), deployment("new", completed=NEW)
    live = (old, never, new, oldest)
    assert pruned(*live, keep=0) == ["new", "old", "oldest", "never"]
    assert pruned(*live, keep=1) == ["old", "oldest", "never"]
    assert pruned(*live, keep=3) == ["never"]
    assert pruned(*live, keep=4) == []


def test_of_those_complete_at_once_the_name_decides() -> None:
    live = [deployment(name, completed=OLD) for name in ("b", "c", "a")]
    assert pruned(*live, keep=1) == ["b", "a"]
    assert pruned(*[deployment(name) for name in ("b", "c", "a")], keep=1) == ["b", "a"]


def test_only_idle_ones_go_and_only_they_count_among_those_kept() -> None:
    used, idle = deployment("used", completed=NEW), deployment("idle", completed=OLD)
    ending, wanted = deployment("ending", current=1), deployment("wanted", replicas=1)
    assert pruned(used, idle, ending, wanted, in_use=(None, used)) == ["idle"]
    assert pruned(used, idle, ending, wanted, in_use=(None, used), keep=1) == []
    assert prune([idle], [], {"idle": 1}, 0) == []
