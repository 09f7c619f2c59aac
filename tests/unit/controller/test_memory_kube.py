"""The stand-in must be as strict as the real API server where the operator relies on it."""

import pytest

from support.memory_kube import Body, Crashed, MemoryKube
from support.memory_snapshot import live_snapshot
from vicuna_contract import names as c
from vicuna_operator.errors import AlreadyExistsError, ConflictError, NotFoundError, UnavailableError
from vicuna_operator.planning.actions import Ref

JOB = Ref("batch/v1", "Job", "j")


def job(name: str = "j", **metadata: object) -> Body:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **metadata},
        "spec": {"a": {"b": 1}},
        "status": {"active": 1},
    }


async def test_create_stamps_and_drops_status() -> None:
    kube = MemoryKube()
    made = await kube.create(job(), "ns")
    assert made["metadata"]["uid"]
    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["namespace"] == "ns"
    assert "status" not in made
    with pytest.raises(AlreadyExistsError):
        await kube.create(job(), "ns")


async def test_generation_follows_spec_only_and_an_empty_change_makes_no_version() -> None:
    kube = MemoryKube()
    first = await kube.create(job(), "ns")
    same = await kube.patch(JOB, "ns", {"spec": {"a": {"b": 1}}})
    assert same == first
    spec = await kube.patch(JOB, "ns", {"spec": {"a": {"b": 2}}})
    assert spec["metadata"]["generation"] == 2
    status = await kube.patch(JOB, "ns", {"status": {"active": 2}, "spec": None}, subresource="status")
    assert status["spec"] == {"a": {"b": 2}}
    assert status["status"] == {"active": 2}
    assert status["metadata"]["generation"] == 2
    assert status["metadata"]["resourceVersion"] != spec["metadata"]["resourceVersion"]


@pytest.mark.parametrize("metadata", [{"uid": "other"}, {"resourceVersion": "0"}])
async def test_preconditions(metadata: Body) -> None:
    kube = MemoryKube()
    await kube.create(job(), "ns")
    with pytest.raises(ConflictError):
        await kube.patch(JOB, "ns", {"metadata": metadata, "spec": {"a": None}})
    with pytest.raises(ConflictError):
        await kube.delete(JOB, "ns", uid="other")


async def test_apply_makes_merges_and_takes_back_what_it_set() -> None:
    kube = MemoryKube()
    await kube.apply({**job(), "spec": {"x": 1, "y": {"z": 1}}}, "ns")
    await kube.patch(JOB, "ns", {"spec": {"theirs": True}})
    after = await kube.apply({**job(), "spec": {"x": 2}}, "ns")
    assert after["spec"] == {"x": 2, "theirs": True}


async def test_orphans_are_collected_and_finalizers_hold() -> None:
    kube = MemoryKube(lingers={"Pod"})
    owner = await kube.create(job("owner"), "ns")
    refs = [{"uid": owner["metadata"]["uid"], "controller": True}]
    await kube.create(job("owned", ownerReferences=refs), "ns")
    await kube.create({**job("pod", ownerReferences=refs), "apiVersion": "v1", "kind": "Pod"}, "ns")
    await kube.delete(Ref("batch/v1", "Job", "owner"), "ns")
    assert kube.find("Job", "owned", "ns") is None
    pod = kube.find("Pod", "pod", "ns")
    assert pod is not None
    assert "deletionTimestamp" in pod["metadata"]
    assert kube.finish_deletion() == 1
    assert kube.find("Pod", "pod", "ns") is None
    with pytest.raises(NotFoundError):
        await kube.delete(JOB, "ns")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        (None, ["a", "b"]),
        ("team=x", ["a"]),
        ("team==x,size", ["a"]),
        ("team!=x", ["b"]),
        ("!size", ["b"]),
        ("team in (x, y)", ["a", "b"]),
        ("team notin (x),team=y", ["b"]),
    ],
)
async def test_label_selectors(selector: str | None, found: list[str]) -> None:
    kube = MemoryKube()
    await kube.create(job("a", labels={"team": "x", "size": "1"}), "ns")
    await kube.create(job("b", labels={"team": "y"}), "ns")
    listed = await kube.list("batch/v1", "Job", "ns", label_selector=selector)
    assert [body["metadata"]["name"] for body in listed] == found


async def test_field_selectors() -> None:
    kube = MemoryKube()
    for name, uid in (("e1", "u1"), ("e2", "u2")):
        kube.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": {"uid": uid}})
    listed = await kube.list("v1", "Event", "default", field_selector="involvedObject.uid=u2")
    assert [body["metadata"]["name"] for body in listed] == ["e2"]


async def test_faults_strike_before_and_crashes_after_the_effect() -> None:
    kube = MemoryKube()
    kube.fail(UnavailableError("down"), verb="create")
    assert kube.faults_left == 1
    with pytest.raises(UnavailableError):
        await kube.create(job(), "ns")
    assert kube.faults_left == 0
    assert kube.objects("Job") == []
    kube.crash_after = 1
    with pytest.raises(Crashed):
        await kube.create(job(), "ns")
    assert len(kube.objects("Job")) == 1
    assert [call.verb for call in kube.writes] == ["create", "create"]


async def test_after_healing_nothing_fails_or_crashes() -> None:
    kube = MemoryKube(crash_after=1)
    kube.fail(UnavailableError("down"), times=3)
    kube.heal()
    await kube.create(job(), "ns")
    assert kube.faults_left == 0


def test_a_change_from_outside_is_a_merge_patch_that_reaches_the_status_and_is_not_a_call() -> None:
    kube = MemoryKube()
    kube.put(job())
    heard: list[tuple[str, Body]] = []
    kube.listen(lambda event, body: heard.append((event, body)))
    before = kube.version
    after = kube.change("Job", "j", {"spec": {"a": {"b": None, "c": 2}}, "status": {"active": 2}})
    assert (after["spec"], after["status"], after["metadata"]["generation"]) == ({"a": {"c": 2}}, {"active": 2}, 2)
    assert kube.version == before + 1 == int(after["metadata"]["resourceVersion"])
    kube.change("Job", "j", {"status": {"active": 2}})
    assert (kube.version, heard) == (before + 1, [("MODIFIED", after)])
    assert kube.calls == []


def test_what_is_read_is_a_copy_and_what_is_kept_is_json() -> None:
    kube = MemoryKube()
    parts = {"same": [1]}
    given = kube.put({**job(), "spec": {"a": parts, "b": parts, "c": (1, 2)}})
    assert given["spec"]["c"] == [1, 2]
    given["spec"]["a"]["same"].append(2)
    parts["same"].append(3)
    found = kube.find("Job", "j")
    assert found is not None
    found["spec"]["a"]["same"].append(4)
    assert found["spec"]["b"] == {"same": [1]}
    assert kube.objects()[0]["spec"]["a"] == {"same": [1]}
    with pytest.raises(TypeError):
        kube.put({**job(), "spec": {"a": {1, 2}}})


def test_what_is_restored_keeps_its_uid_and_its_times() -> None:
    kube = MemoryKube()
    kube.put(job())
    old = {"uid": "uid-old", "creationTimestamp": "2020-01-01T00:00:00Z", "resourceVersion": "7"}
    kube.restore(job("j", **old))
    (found,) = kube.objects("Job")
    assert (found["metadata"]["uid"], found["metadata"]["creationTimestamp"]) == ("uid-old", "2020-01-01T00:00:00Z")
    assert found["metadata"]["resourceVersion"] == str(kube.version)


def test_what_lingers_is_there_until_its_deletion_is_finished() -> None:
    kube = MemoryKube(lingers={"Pod"})
    kube.put({**job("pod"), "kind": "Pod"})
    kube.put(job())
    for _ in range(2):
        kube.start_deletion("Pod", "pod")
        kube.start_deletion("Job", "j")
        (left,) = kube.objects()
        assert left["metadata"].keys() >= {"deletionTimestamp"}
    assert kube.finish_deletion() == 1
    assert kube.objects() == []


def test_live_snapshot_shows_labelled_children_and_can_freeze() -> None:
    kube = MemoryKube()
    snapshot = live_snapshot(kube)
    labels = {c.LABEL_MODEL: "m", c.LABEL_MANAGED_BY: c.MANAGED_BY}
    kube.put(job("mine", labels=labels))
    kube.put(job("theirs", labels={c.LABEL_MODEL: "m"}))
    seen = snapshot.children(("default", "m"), lambda _: True)
    assert [view.meta.name for view in seen.jobs] == ["mine"]
    snapshot.jobs.freeze()  # type: ignore[attr-defined]
    kube.remove("Job", "mine")
    assert len(snapshot.children(("default", "m"), lambda _: True).jobs) == 1
    snapshot.jobs.thaw()  # type: ignore[attr-defined]
    assert snapshot.children(("default", "m"), lambda _: True).jobs == ()
