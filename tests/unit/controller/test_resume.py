"""The operator killed after any write, with the real plan: it resumes, and ends where it would have ended."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from support.amount import first
from support.lifetime import Lifetime

CHILDREN = ("PersistentVolumeClaim", "Job", "Deployment", "Service", "PodDisruptionBudget")


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def settle(life: Lifetime) -> int:
    """Run operator and controllers in turn until nothing is written any more; return how often the operator died."""
    deaths = 0
    for _ in range(60):
        before = len(life.kube.writes)
        life.tick(1)
        if not life.reconcile():
            deaths += 1
            continue
        moved = life.controllers()
        if len(life.kube.writes) == before and not moved:
            return deaths
    raise AssertionError("does not settle")


def shape(life: Lifetime) -> dict[str, Any]:
    """Everything that the operator made, without what differs between two runs."""
    specs = {f"{kind}/{body['metadata']['name']}": body["spec"] for kind in CHILDREN for body in life.all(kind)}
    conditions = {item["type"]: (item["status"], item["reason"]) for item in life.status["conditions"]}
    return {"specs": specs, "conditions": conditions, "active": life.status["active"]["revision"]}


def test_from_model_to_ready_and_then_silence(runner: asyncio.Runner) -> None:
    life = Lifetime(runner)
    settle(life)
    assert shape(life)["conditions"]["Ready"] == ("True", "Ready")
    written = len(life.kube.writes)
    life.reconcile()
    life.start()  # a restart is not a reason to write either
    life.reconcile()
    assert len(life.kube.writes) == written


@pytest.mark.parametrize("after", first(range(1, 20), 3))
def test_killed_after_any_write_it_ends_where_it_would_have_ended(runner: asyncio.Runner, after: int) -> None:
    straight = Lifetime(runner)
    settle(straight)
    life = Lifetime(runner)
    life.kube.crash_after = after
    deaths = settle(life)
    if after <= len(straight.kube.writes):
        assert deaths == 1
    assert shape(life) == shape(straight)


def test_killed_after_every_single_write(runner: asyncio.Runner) -> None:
    straight = Lifetime(runner)
    settle(straight)
    life = Lifetime(runner)
    deaths = 0
    for _ in range(len(straight.kube.writes)):
        life.kube.crash_after = 1
        deaths += not life.reconcile()
        life.controllers()
        life.tick(1)
    life.kube.heal()
    settle(life)
    assert deaths > 5
    assert shape(life) == shape(straight)
