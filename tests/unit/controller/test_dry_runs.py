import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import MemoryKube
from support.memory_snapshot import live_snapshot
from support.world import CONFIG
from vicuna_operator.api.model import parse_model
from vicuna_operator.controller import dry_runs
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.errors import (
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnavailableError,
)
from vicuna_operator.kube.warnings import warnings_in
from vicuna_operator.planning.actions import DryRun
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.stopped_status import refused

KEY = ("team", "demo")
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "inputs"},
    "spec": {"accessModes": ["ReadWriteMany"]},
    "status": {"phase": "Bound"},
}


def operator(kube: MemoryKube) -> Reconciler:
    return Reconciler(kube, live_snapshot(kube), Planning(plan, claims_to_read, refused), CONFIG)


def cluster(kube: MemoryKube | None = None) -> MemoryKube:
    kube = kube or MemoryKube()
    kube.put(model_body(), "team")
    kube.put(CLAIM, "team")
    return kube


def tried(kube: MemoryKube) -> int:
    return sum(call.verb == "dry-run" for call in kube.calls)


def ready(kube: MemoryKube) -> Mapping[str, Any]:
    body = kube.find("VicunaModel", "demo", "team")
    assert body is not None
    return next(item for item in body["status"]["conditions"] if item["type"] == "Ready")


async def test_a_finding_stops_the_merge_and_another_operator_asks_once_more() -> None:
    kube = cluster()
    first = operator(kube)
    kube.fail(InvalidError("spec.template.labels: Invalid value", 422), verb="dry-run", kind="Deployment", times=2)
    for _ in range(3):
        await first.reconcile(KEY)
    assert tried(kube) == 2
    assert ready(kube)["reason"] == "InvalidSpec"
    assert not kube.objects("Job")
    before = len(kube.writes)
    await operator(kube).reconcile(KEY)
    assert tried(kube) == 4
    assert len(kube.writes) == before, "what is known already is not written again"


@pytest.mark.parametrize(
    "answer",
    [
        ForbiddenError("pods are forbidden", 403),
        NotFoundError("the server could not find the requested resource", 404),
        InvalidError('admission webhook "x" does not support dry run', 400),
        UnavailableError("no answer"),
        KubeError("what is that", 418),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_other_answer_is_logged_and_ignored(answer: KubeError, caplog: pytest.LogCaptureFixture) -> None:
    kube = cluster()
    caplog.set_level(logging.INFO)
    kube.fail(answer, verb="dry-run", times=2)
    await operator(kube).reconcile(KEY)
    assert ready(kube)["reason"] == "MergePending"
    assert len(kube.objects("Job")) == 1
    assert str(answer) in caplog.text


async def test_a_merge_does_not_wait_for_a_webhook_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(MemoryKube):
        async def dry_run(self, body: Mapping[str, Any], namespace: str) -> list[str]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(dry_runs, "_SECONDS", 0.01)
    kube = cluster(Deaf())
    await operator(kube).reconcile(KEY)
    assert len(kube.objects("Job")) == 1


def burst(kube: MemoryKube, count: int, **serving: Any) -> list[tuple[str, str]]:
    """Put models that differ in name and source."""
    names = [f"m{number}" for number in range(count)]
    for name in names:
        body = model_body(name, weights={"base": {"source": f"pvc://inputs/{name}"}}, serving=serving)
        kube.put(body, "team")
    return [("team", name) for name in names]


async def test_of_a_burst_of_one_shape_the_first_has_a_dry_run() -> None:
    kube = cluster()
    one = operator(kube)
    await asyncio.gather(*(one.reconcile(key) for key in burst(kube, 20)))
    assert tried(kube) == 2
    assert len(kube.objects("Job")) == 20


async def test_each_model_is_told_of_its_own_object_what_is_wrong() -> None:
    kube = cluster()
    for name in ("m0", "m1", "m2"):
        kube.fail(InvalidError(f"{name} is invalid", 422), verb="dry-run", kind="Deployment")
    one = operator(kube)
    await asyncio.gather(*(one.reconcile(key) for key in burst(kube, 3, podLabels={"a": "b c"})))
    assert [call.kind for call in kube.calls if call.verb == "dry-run"].count("Deployment") == 3
    for name in ("m0", "m1", "m2"):
        body = kube.find("VicunaModel", name, "team")
        assert body is not None
        (said,) = [item for item in body["status"]["conditions"] if item["type"] == "Ready"]
        assert said["reason"] == "InvalidSpec"
    assert not kube.objects("Job")


async def test_an_answer_that_says_nothing_is_not_gone_by() -> None:
    kube = cluster()
    kube.fail(UnavailableError("no answer"), verb="dry-run", kind="Deployment")
    one = operator(kube)
    await asyncio.gather(*(one.reconcile(key) for key in burst(kube, 3)))
    assert [call.kind for call in kube.calls if call.verb == "dry-run"].count("Deployment") >= 2


async def test_an_answer_is_good_for_a_minute_and_in_its_namespace() -> None:
    kube, clock = cluster(), [0.0]
    asked = dry_runs.DryRuns(kube, clock=lambda: clock[0])
    body = {"kind": "Job", "apiVersion": "batch/v1", "spec": {}}
    marks = {"labels": {"vicuna.dev/model": "x"}, "annotations": {"vicuna.dev/claim": "x-weights"}}
    number = 0

    async def ask(namespace: str = "team") -> int:
        nonlocal number
        number += 1
        model = parse_model({**model_body(), "metadata": {"name": "demo", "namespace": namespace, "uid": "u"}})
        await asked.ask(model, DryRun("k", [{**body, "metadata": {"name": f"j{number}", **marks}}]))
        return tried(kube)

    assert [await ask(), await ask(), await ask("other"), await ask("other")] == [1, 1, 2, 2]
    clock[0] = 61
    assert await ask() == 3


@pytest.mark.parametrize("kind", ["Job", "PersistentVolumeClaim"])
async def test_what_is_found_wrong_only_when_it_is_made_is_the_specs_fault_too(kind: str) -> None:
    kube = cluster()
    kube.fail(InvalidError("spec: Invalid value", 422), verb="create", kind=kind)
    with pytest.raises(InvalidError):
        await operator(kube).reconcile(KEY)
    assert ready(kube)["reason"] == "InvalidSpec"
    assert "roles" not in ready(kube)["message"]


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ("", []),
        ("nonsense", []),
        ('299 - "one"', ["one"]),
        ('299 - "a \\"b\\" \\\\ c", 299 kube "two"', ['a "b" \\ c', "two"]),
    ],
)
def test_warnings_of_a_header(header: str, texts: list[str]) -> None:
    assert warnings_in({"Warning": header}) == texts
