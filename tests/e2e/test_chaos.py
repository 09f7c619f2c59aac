"""Pods are killed, removed, replaced, added and put to sleep at random, and no client notices."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from .cluster import Namespace, meanwhile, model, pod_conditions, scripted, until
from .door import GATEWAY, SELECTOR, gateway_key
from .test_gateway import SLOW, load

SECONDS = 120
LONG = int(os.environ.get("E2E_CHAOS_SECONDS", "600"))
CLIENTS, VISITORS = 12, 2
BUSY, SLEEPY = "chaos-busy", "chaos-sleepy"
IDLE = 10
SCALING = {"minReplicas": 0, "maxReplicas": 2, "targetRequests": 4, "idleSeconds": IDLE, "scaleDownSeconds": IDLE}


@pytest.fixture(scope="module")
def key(team: Namespace, operator: Namespace) -> Iterator[str]:
    """A key for two models: one is asked all the time, one now and then, so that it sleeps."""
    # A server is deaf to SIGTERM while Python itself starts; it is killed at the end of its grace period.
    busy = scripted(replicas=3, rollout={"handOverSeconds": 2}, maxStreamSeconds=60)
    team.apply(
        model(BUSY, "weights", serving=busy | {"env": SLOW}),
        model(SLEEPY, "weights", serving=scripted(autoscaling=SCALING) | {"env": SLOW}),
    )
    with gateway_key(operator, team, "chaos") as made:
        team.wait_ready(BUSY)
        yield made
    team.kubectl("delete", "vicunamodel", BUSY, SLEEPY, "--timeout=120s", timeout=150)
    # An old kubelet keeps a pod that was told to end before its container began for its whole grace period.
    left = f"vicuna.dev/model in ({BUSY},{SLEEPY})"
    team.kubectl("delete", "pod", "--selector", left, "--grace-period=0", "--force")


class Chaos:
    """What is done to the pods, each kind once in every round."""

    def __init__(self, team: Namespace, operator: Namespace, chance: random.Random) -> None:
        self._team = team
        self._operator = operator
        self._chance = chance
        self.done: Counter[str] = Counter()

    def round(self, end: float) -> None:
        """Do all in a random order, up to a moment."""
        kinds = [self.kill, self.remove, self.edit, self.resize, self.lose_a_gateway]
        for act in self._chance.sample(kinds, len(kinds)):
            time.sleep(self._chance.uniform(0, 5))
            if time.monotonic() > end:
                return
            act()
            self.done[act.__name__] += 1

    def kill(self) -> None:
        self._team.kubectl("delete", "pod", self._one_of_two(), "--grace-period=0", "--force")

    def remove(self) -> None:
        self._team.kubectl("delete", "pod", self._one_of_two(), "--wait=false")

    def edit(self) -> None:
        self._team.patch_spec(BUSY, serving={"maxConcurrency": self._chance.randint(CLIENTS, 99)})

    def resize(self) -> None:
        self._team.patch_spec(BUSY, serving={"replicas": self._chance.choice((2, 3, 4))})

    def lose_a_gateway(self) -> None:
        """One goes as pods do; the other one is there until it is back."""
        self._operator.kubectl("rollout", "status", f"deployment/{GATEWAY}", "--timeout=120s")
        (pod, *_) = self._operator.find("pods", SELECTOR)
        self._operator.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    def _one_of_two(self) -> str:
        """Return a ready pod of a revision that has another one, which can go on with its streams."""
        return until("two pods of one revision are ready", self._spare, 180)

    def _spare(self) -> str:
        ready: dict[str, list[str]] = {}
        for pod in self._team.pods(BUSY):
            if pod_conditions(pod).get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
                ready.setdefault(pod["metadata"]["labels"]["vicuna.dev/revision"], []).append(pod["metadata"]["name"])
        spare = [name for names in ready.values() if len(names) > 1 for name in names]
        return self._chance.choice(spare) if spare else ""


def sleeps(team: Namespace, seen: list[bool]) -> Callable[[], None]:
    """Return what notes each time that the sleepy model falls asleep or wakes."""

    def look() -> None:
        asleep = team.condition(SLEEPY, "Ready").get("reason") == "Asleep"
        if seen[-1:] != [asleep]:
            seen.append(asleep)

    return look


def withstand(team: Namespace, operator: Namespace, key: str, seconds: int) -> None:
    """Let clients stream for so long while all is done to the pods, and see that each answer was whole."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chaos = Chaos(team, operator, random.Random(seed))
    end = time.monotonic() + seconds
    nights: list[bool] = []
    with meanwhile(sleeps(team, nights), lambda: 0.5):
        with (
            load(team, key, CLIENTS, seconds, [BUSY]) as busy,
            load(team, key, VISITORS, seconds, [SLEEPY], revisions=1, pause=4 * IDLE) as visitors,
        ):
            while time.monotonic() < end:
                chaos.round(end)
            team.wait_ready(BUSY, 180)
        team.wait_reason(SLEEPY, "Asleep", 60)
    print(f"{dict(chaos.done)}; {busy.ok} and {visitors.ok} streams; it slept {nights.count(True)} times")
    assert busy.failed == []
    assert visitors.failed == []
    assert busy.ok > seconds
    assert visitors.ok
    assert len(chaos.done) == 5


@pytest.mark.timeout(SECONDS + 600)
def test_no_client_notices(team: Namespace, operator: Namespace, key: str) -> None:
    withstand(team, operator, key, SECONDS)


@pytest.mark.full
@pytest.mark.timeout(LONG + 600)
def test_no_client_notices_for_long(team: Namespace, operator: Namespace, key: str) -> None:
    withstand(team, operator, key, LONG)
