import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from support.memory_kube import MemoryKube
from support.memory_snapshot import live_snapshot
from support.world import CONFIG, model_body
from vicuna_operator.controller import rehearsing
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.errors import (
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnavailableError,
)
from vicuna_operator.kube.warnings import warnings_in
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.status import refused

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
        async def dry_run(self, body: Mapping[str, Any], namespace: str) -> list[str]:  # type: ignore[override]
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(rehearsing, "_SECONDS", 0.01)
    kube = cluster(Deaf())
    await operator(kube).reconcile(KEY)
    assert len(kube.objects("Job")) == 1


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
