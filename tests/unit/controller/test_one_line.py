"""One line of the log per pass, at level debug: what was decided, and on which figures."""

import json
import logging
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import MemoryKube
from support.memory_snapshot import live_snapshot
from support.world import CONFIG, World
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.errors import ForbiddenError
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.stopped_status import refused

KEY = ("team", "demo")


def operator(kube: MemoryKube) -> Reconciler:
    return Reconciler(kube, live_snapshot(kube), Planning(plan, claims_to_read, refused), CONFIG)


def passes(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [record.getMessage() for record in caplog.records if ": pass: " in record.getMessage()]
    assert all("\n" not in line and line.startswith("team/demo: pass: ") for line in lines)
    found = []
    for line in lines:
        rest, told = line.removeprefix("team/demo: pass: "), {}
        while rest:
            name, _, rest = rest.partition("=")
            told[name], end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end + 1 :]
        found.append(told)
    return found


async def test_each_pass_is_one_line_of_figures(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vicuna_operator")
    world = World(model_body(serving={"replicas": 2}))
    world.deploy()
    world.edit(serving={"maxConcurrency": 7})
    await operator(world.kube).reconcile(KEY)
    (told,) = passes(caplog)
    old, new = world.status["active"]["revision"], told["target"]
    assert told["rollout"] == "STARTING"
    assert (told["wanted"], told["ready"], told["sizes"]) == (2, {old: 2}, {old: 2, new: 1})
    assert told["actions"] == [f"create Deployment demo-{new}", f"patch Deployment demo-{old}"][: len(told["actions"])]
    assert told["reason"] == "RollingOut"


async def test_a_pass_that_fails_is_one_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vicuna_operator")
    world = World()
    world.kube.fail(ForbiddenError("no", 403), verb="create", kind="Job")
    with pytest.raises(ForbiddenError):
        await operator(world.kube).reconcile(KEY)
    (told,) = passes(caplog)
    assert "create Job demo-merge" in str(told["actions"])


async def test_of_a_wrong_spec_and_of_a_name_conflict(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vicuna_operator")
    world = World()
    world.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo"}})
    await operator(world.kube).reconcile(KEY)
    world.edit(serving={"device": "cuda", "numGpus": 0})
    await operator(world.kube).reconcile(KEY)
    assert [told["reason"] for told in passes(caplog)] == ["NameConflict", "InvalidSpec"]


async def test_nothing_is_made_up_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vicuna_operator")
    await operator(World().kube).reconcile(KEY)
    assert not passes(caplog)
