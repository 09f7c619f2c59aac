"""Random lifetimes of a model, with the real reconciler: edits, faults, crashes, late watches.

A failure names its seed: `Story(seed, runner).tell()` tells the same again.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from support.cluster import NAMESPACE
from support.lifetime import Lifetime
from vicuna_operator.errors import ConflictError, UnavailableError

LIFETIMES = 1000
CHUNK = 50
MANY = 400  # of them in make test
SHORT = 4  # of them in make unit


class Story:
    """One lifetime, decided by its seed."""

    def __init__(self, seed: int, runner: asyncio.Runner) -> None:
        self.random = random.Random(seed)
        self.life = Lifetime(runner)
        self.trace: list[str] = []
        self.seen_calls = 0

    def tell(self) -> None:
        """Live it, then let everything heal: it must come to rest, and stay there without a write."""
        steps = list(STEPS)
        for _ in range(self.random.randint(5, 20)):
            name = self.random.choice(steps)
            self.trace.append(name)
            STEPS[name](self)
        self.heal()
        self.rest()

    def passes(self, number: int) -> None:
        for _ in range(number):
            self.check(self.life.reconcile())
            self.life.tick(1)

    def turn(self, rounds: int) -> None:
        for _ in range(rounds):
            self.life.controllers()
            self.passes(1)

    def check(self, finished: bool) -> None:
        """What must hold after every single pass; what the status says, if nothing kept the pass from saying it."""
        life = self.life
        calls, self.seen_calls = life.kube.calls[self.seen_calls :], len(life.kube.calls)
        status = life.status
        in_use = {(status.get(key) or {}).get("revision") for key in ("active", "target")}
        in_use |= {pod["metadata"]["labels"]["vicuna.dev/revision"] for pod in life.ready_pods()}
        for call in calls:
            if call.verb == "delete" and call.kind == "Deployment":
                assert call.name.rpartition("-")[2] not in in_use, f"{call.name} is in use"
            if call.verb == "create" and "-prune-" in call.name and call.body is not None:
                kept = json.loads(call.body["metadata"]["annotations"]["vicuna.dev/kept-artifacts"])
                assert self.artifacts() <= set(kept), "an artifact in use would be removed"
        if finished and not life.late and life.condition("Ready").get("status") == "True":
            self.honest()

    def artifacts(self) -> set[str]:
        deployments = self.life.kube.objects("Deployment", NAMESPACE)
        return {item["metadata"]["labels"]["vicuna.dev/artifact-id"] for item in deployments}

    def honest(self) -> None:
        life, status = self.life, self.life.status
        if status["observedGeneration"] != life.body["metadata"]["generation"]:
            return  # not said of this generation
        wanted = self.wanted()
        revisions = {pod["metadata"]["labels"]["vicuna.dev/revision"] for pod in life.ready_pods()}
        assert len(life.ready_pods()) >= max(1, wanted)
        assert revisions == {status["active"]["revision"]} == {status["target"]["revision"]}

    def wanted(self) -> int:
        serving = self.life.body["spec"].get("serving", {})
        if serving.get("autoscaling"):
            return int((self.life.status.get("autoscaling") or {}).get("desiredReplicas", 1))
        return int(serving.get("replicas", 1))

    def is_drowsy(self) -> bool:
        """Tell whether time alone will still bring about fewer pods, as nobody asks any more."""
        scaling = self.life.body["spec"]["serving"].get("autoscaling")
        return bool(scaling) and self.wanted() > scaling["minReplicas"]

    def heal(self) -> None:
        life = self.life
        life.late = False
        life.deliver()
        life.kube.heal()
        life.merge, life.gpus = "ok", 12
        life.crashing.clear()
        life.silent.clear()
        life.edit(suspend=False, serving={"numGpus": 1, "device": "auto"})
        life.annotate("vicuna.dev/retry", "heal")
        life.ask(0)

    def rest(self) -> None:
        life = self.life
        for _ in range(150):
            before = len(life.kube.writes)
            moved = life.controllers()
            self.passes(1)
            life.tick(20)
            if not moved and len(life.kube.writes) == before and not self.is_drowsy():
                break
        else:
            raise AssertionError("it does not come to rest")
        wanted = self.wanted()
        expected = "True" if wanted else "False"
        assert life.condition("Ready").get("status") == expected, life.condition("Ready")
        if wanted:
            self.honest()
        for _ in range(2):  # the same operator, then a new one, long after
            before = len(life.kube.writes)
            life.tick(7200)
            life.reconcile()
            life.controllers()
            life.reconcile()
            assert self.quiet(before), [f"{call.verb} {call.kind} {call.name}" for call in life.kube.writes[before:]]
            life.start()

    def quiet(self, before: int) -> bool:
        """Removing an old artifact is the one thing that time alone may bring about."""
        written = [call for call in self.life.kube.writes[before:] if call.kind != "Event"]
        return all("-prune-" in call.name or call.kind == "PersistentVolumeClaim" for call in written)

    # steps

    def autoscale(self) -> None:
        scaling = {"minReplicas": self.pick(0, 1), "maxReplicas": 3, "targetRequests": 4}
        windows = {"idleSeconds": 60, "scaleDownSeconds": self.pick(20, 90)}
        self.life.edit(serving={"autoscaling": self.pick(None, {**scaling, **windows})})

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def lose(self) -> None:
        kube, kind = self.life.kube, self.pick("Job", "Pod", "Service", "PodDisruptionBudget")
        found = kube.objects(kind, NAMESPACE)
        if found:
            kube.remove(kind, self.random.choice(found)["metadata"]["name"], NAMESPACE)

    def scale_by_hand(self) -> None:
        for body in self.life.kube.objects("Deployment", NAMESPACE)[:1]:
            body["spec"]["replicas"] = self.pick(0, 1, 5)
            self.life.kube.put(body, NAMESPACE)

    def crash_target(self) -> None:
        if revision := (self.life.status.get("target") or {}).get("revision"):
            self.life.crashing[revision] = {"exitCode": 65, "message": "no such model"}

    def silence_target(self) -> None:
        if revision := (self.life.status.get("target") or {}).get("revision"):
            self.life.silent.add(revision)

    def late(self) -> None:
        self.life.late = not self.life.late
        if not self.life.late:
            self.life.deliver()

    def fail(self) -> None:
        error = self.pick(UnavailableError("503", 503), ConflictError("409", 409))
        self.life.kube.fail(error, verb=self.pick(None, "create", "patch"), times=self.random.randint(1, 4))


STEPS: dict[str, Callable[[Story], object]] = {
    "replicas": lambda s: s.life.edit(serving={"replicas": s.pick(0, 1, 2, 3)}),
    "autoscale": Story.autoscale,
    "ask": lambda s: s.life.ask(s.pick(0, 0, 1, 9, 30)),
    "setting": lambda s: s.life.edit(serving={"maxConcurrency": s.random.randint(1, 4)}),
    "weights": lambda s: s.life.edit(weights={"base": {"source": f"pvc://inputs/{s.pick('a', 'b', 'c')}"}}),
    "strategy": lambda s: s.life.edit(serving={"rollout": {"strategy": s.pick("Auto", "Surge", "Drain", "Recreate")}}),
    "image": lambda s: s.life.edit(serving={"image": s.pick("one:1", "two:2")}),
    "suspend": lambda s: s.life.edit(suspend=s.pick(True, False)),
    "invalid": lambda s: s.life.edit(serving={"device": "cuda", "numGpus": s.pick(0, 1)}),
    "retry": lambda s: s.life.annotate("vicuna.dev/retry", str(s.random.random())),
    "gpus": lambda s: setattr(s.life, "gpus", s.pick(1, 2, 3, 6)),
    "merge": lambda s: setattr(s.life, "merge", s.pick("ok", "ok", "terminal", "transient", "never")),
    "broken": Story.crash_target,
    "silent": Story.silence_target,
    "crash": lambda s: setattr(s.life.kube, "crash_after", s.random.randint(1, 6)),
    "restart": lambda s: s.life.start(),
    "fail": Story.fail,
    "late": Story.late,
    "lose": Story.lose,
    "lose status": lambda s: s.life.lose_status(),
    "by hand": Story.scale_by_hand,
    "wait": lambda s: s.life.tick(s.pick(1, 31, 900, 2000)),
    "turn": lambda s: s.turn(s.random.randint(1, 5)),
    "long turn": lambda s: s.turn(12),
    "passes": lambda s: s.passes(3),
    "controllers": lambda s: s.life.controllers(),
}


@pytest.mark.parametrize(
    ("first", "end"),
    [
        (0, SHORT),
        *(
            pytest.param(max(first, SHORT), first + CHUNK, marks=pytest.mark.long if first < MANY else pytest.mark.full)
            for first in range(0, LIFETIMES, CHUNK)
        ),
    ],
)
def test_every_lifetime_is_honest_keeps_what_is_in_use_and_comes_to_rest(first: int, end: int) -> None:
    with asyncio.Runner() as runner:
        for seed in range(first, end):
            story = Story(seed, runner)
            try:
                story.tell()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {', '.join(story.trace)}: {error}") from error
