"""Random histories: whatever happens, Ready is never said wrongly and everything comes to rest."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.amount import examples
from support.cluster import model_body
from support.world import World

STEPS = st.one_of(
    st.tuples(st.just("replicas"), st.integers(0, 3)),
    st.tuples(st.just("concurrency"), st.integers(1, 3)),
    st.tuples(st.just("weights"), st.sampled_from(["base", "other"])),
    st.tuples(st.just("strategy"), st.sampled_from(["Auto", "Surge", "Drain", "Recreate"])),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("invalid"), st.booleans()),
    st.tuples(st.just("gpus"), st.integers(1, 4)),
    st.tuples(st.just("merge"), st.sampled_from(["ok", "terminal", "transient"])),
    st.tuples(st.just("lose"), st.sampled_from(["status", "job", "pod"])),
    st.tuples(st.just("reconcile"), st.integers(1, 4)),
    st.tuples(st.just("cluster"), st.integers(1, 4)),
    st.tuples(st.just("tick"), st.sampled_from([1, 31, 600])),
)


def unfinished(world: World) -> bool:
    jobs = world.all("Job")
    newest = max(jobs, key=lambda job: int(job["metadata"]["annotations"]["vicuna.dev/merge-attempt"]), default=None)
    return newest is not None and not newest.get("status")


def end(world: World, how: str) -> None:
    if not unfinished(world):
        return
    if how == "ok":
        world.end_job()
    elif how == "terminal":
        world.end_job(65, json.dumps({"reason": "NotADelta", "message": "no", "retryable": False}))
    else:
        world.end_job(69, json.dumps({"reason": "SourceUnreachable", "message": "no", "retryable": True}))


def lose(world: World, what: str) -> None:
    if what == "status":
        world.lose_status()
    kind = {"job": "Job", "pod": "Pod"}.get(what)
    victim = next(iter(world.all(kind)), None) if kind else None
    if victim is not None:
        world.remove(victim)


def run(world: World, rounds: int) -> None:
    for _ in range(rounds):
        world.run_deployments()
        world.make_ready()


def watch(world: World, passes: int) -> None:
    for _ in range(passes):
        world.reconcile()
        honest(world)


# name of a step → what it does to the world
TAKE: dict[str, Callable[[World, Any], object]] = {
    "replicas": lambda world, value: world.edit(serving={"replicas": value}),
    "concurrency": lambda world, value: world.edit(serving={"maxConcurrency": value}),
    "strategy": lambda world, value: world.edit(serving={"rollout": {"strategy": value}}),
    "weights": lambda world, value: world.edit(weights={"base": {"source": f"pvc://inputs/{value}"}}),
    "suspend": lambda world, value: world.edit(suspend=value),
    "invalid": lambda world, value: world.edit(serving={"device": "cuda", "numGpus": 0 if value else 1}),
    "gpus": lambda world, value: setattr(world, "gpus", max(value, world.gpus_in_use())),
    "merge": end,
    "lose": lose,
    "tick": World.tick,
    "reconcile": watch,
    "cluster": run,
}


def honest(world: World) -> None:
    """Check what Ready=True claims against the world itself, at the moment it is said."""
    if world.condition("Ready")["status"] != "True":
        return
    wanted = world.body["spec"].get("serving", {}).get("replicas", 1)
    revisions = {pod["metadata"]["labels"]["vicuna.dev/revision"] for pod in world.ready_pods()}
    assert world.status["observedGeneration"] == world.body["metadata"]["generation"]
    assert len(world.ready_pods()) >= max(1, wanted)
    assert revisions == {world.status["active"]["revision"]} == {world.status["target"]["revision"]}


@pytest.mark.long
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=25))
def test_every_history_is_honest_and_comes_to_rest(steps: list[tuple[str, object]]) -> None:
    world = World(model_body(serving={"replicas": 2}), gpus=3)
    for step in steps:
        name, value = step
        TAKE[name](world, value)
    world.edit(suspend=False, serving={"numGpus": 1, "device": "auto"})
    world.gpus = 8
    for _ in range(30):
        world.reconcile()
        honest(world)
        end(world, "ok")
        world.run_deployments()
        world.make_ready()
        world.tick(301)
    world.settle(rounds=120)
    honest(world)
    if world.condition("Stalled")["status"] == "False" and world.body["spec"]["serving"]["replicas"]:
        assert world.condition("Ready")["status"] == "True"
    before = world.writes
    world.tick(3600)
    world.reconcile()
    assert world.writes == before
