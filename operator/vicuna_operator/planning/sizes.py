"""How many pods each revision's Deployment should have now: formulas over what exists, without any memory.

Whatever the strategy, a ready pod is stopped only when another is ready in its place (Drain: one may be missing).
Terminating pods count as long as they may run, because each still holds its GPUs. Past its grace period and a margin a
pod does not count any more: its node is dead, or a finalizer keeps the object. Nor does one that was told to end before
it began.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.pods import PodView

__all__ = ["LOST_AFTER", "Fleet", "is_lost", "ready_pods"]

LOST_AFTER = timedelta(
    seconds=60
)  # beyond the grace period: time for the kubelet's last kill, and for clocks that differ


def is_lost(pod: PodView, now: datetime) -> bool:
    """Tell whether a pod that is being deleted should have been gone for long."""
    return pod.ends is not None and now >= pod.ends + LOST_AFTER


def ready_pods(pods: Sequence[PodView], revision_name: str) -> int:
    """Count a revision's pods that take traffic: ready and not terminating."""
    return sum(1 for pod in pods if pod.revision == revision_name and pod.ready and not pod.meta.deleting)


@dataclass(frozen=True)
class Fleet:
    """All revisions of a model with their pods. `wanted` is the number of replicas at the end of the rollout."""

    live: Sequence[DeploymentView]
    pods: Sequence[PodView]
    wanted: int

    def ready(self, revision: str) -> int:
        """Count the ready pods of a revision."""
        return ready_pods(self.pods, revision)

    def elsewhere(self, revision: str) -> int:
        """Count the pods of all other revisions, terminating ones included."""
        return sum(1 for pod in self.pods if pod.revision != revision)

    @property
    def terminating(self) -> Sequence[PodView]:
        """Return the terminating pods on a node; they may run as long as their streams do."""
        return [pod for pod in self.pods if pod.meta.deleting and pod.node]

    def others_serve(self, revision: str) -> bool:
        """Tell whether pods of another revision take traffic."""
        return any(self.ready(item.revision) for item in self.live if item.revision != revision)

    def all_on(self, revision: str) -> Mapping[str, int]:
        """Give everything to one revision, at once."""
        return {**{item.revision: 0 for item in self.live}, revision: self.wanted}

    def roll(self, target: str, base: DeploymentView | None, strategy: str, *, starved: bool) -> Mapping[str, int]:
        """Take the next step towards `target`; `base` is the revision that fills up what the others lack.

        `starved` says that a pod of the target waits for what a running pod of another revision holds.
        """
        ready, elsewhere = self.ready(target), self.elsewhere(target)
        has = self._replicas(target)
        if strategy == "Surge":
            keep = self.wanted - ready
            start = ready + 1 if has > ready or elsewhere <= self.wanted else ready
        elif strategy == "Drain":
            # A pod that waits for room is kept: a new one would start at the end of the scheduler's queue.
            keep, start = self._left_to_others(target, starved), max(self.wanted - elsewhere, min(has, ready + 1))
        else:
            keep, start = 0, self.wanted if elsewhere == 0 else 0
        sizes = self._shares(target, base, max(0, min(keep, self.wanted)))
        return {**sizes, target: min(self.wanted, max(ready, start))}

    def restore(self, last_known_good: DeploymentView, *, starved: bool) -> Mapping[str, int]:
        """Take the next step back to `last_known_good`; other ready pods stay until only one replica is missing."""
        start = max(last_known_good.replicas, self.wanted + 1 - self.elsewhere(last_known_good.revision))
        sizes = self._shares(
            last_known_good.revision, None, max(0, self._left_to_others(last_known_good.revision, starved))
        )
        return {**sizes, last_known_good.revision: min(self.wanted, start)}

    def standing(self, revision: str) -> Sequence[PodView]:
        """Return the pods of all other revisions that are on a node and not terminating."""
        return [pod for pod in self.pods if pod.revision != revision and pod.node and not pod.meta.deleting]

    def queue(self, revision: str) -> Sequence[PodView]:
        """Return the unschedulable pods of a revision; gated ones are not among them."""
        mine = [pod for pod in self.pods if pod.revision == revision and not pod.meta.deleting]
        return [pod for pod in mine if pod.unschedulable and not (pod.gated or pod.node)]

    def starting(self, revision: str) -> Sequence[PodView]:
        """Return the pods of a revision that are on a node and may become ready."""
        mine = [pod for pod in self.pods if pod.revision == revision and not pod.meta.deleting]
        return [pod for pod in mine if pod.node and not pod.ready]

    def situation(self, revision: str) -> str:
        """Return a text that changes when the situation changes in which a revision waits; empty: it does not wait.

        The scheduler's times are compared with each other only, never with the operator's clock.
        """
        queue = self.queue(revision)
        if not queue:
            return ""
        youngest = max(format_time(pod.unscheduled_since) if pod.unscheduled_since else "" for pod in queue)
        return f"{len(queue)}/{sum(1 for pod in self.pods if pod.node)}/{youngest}"

    def goes_no_further(self, revision: str) -> bool:
        """Tell whether a revision has all running pods, some of them ready, and its other pods only wait for room."""
        mine = [pod for pod in self.pods if pod.revision == revision]
        rest = [pod for pod in mine if not pod.ready]
        waits = len(mine) >= self.wanted and all(pod.unschedulable for pod in rest)
        return waits and self.is_alone(revision) and self.ready(revision) > 0

    def is_alone(self, revision: str) -> bool:
        """Tell whether no other revision has pods or replicas."""
        held = any(item.replicas for item in self.live if item.revision != revision)
        return not held and not self.elsewhere(revision)

    def _replicas(self, revision: str) -> int:
        return next((item.replicas for item in self.live if item.revision == revision), 0)

    def _left_to_others(self, revision: str, starved: bool) -> int:
        """Return how many pods the others keep while the target drains them: at most one is stopped at a time.

        Where fewer run than are wanted, one is stopped only for a pod that waits for what it holds.
        """
        return min(self.wanted - 1 - self.ready(revision), len(self.standing(revision)) - starved)

    def _shares(self, apart: str, base: DeploymentView | None, budget: int) -> dict[str, int]:
        """Divide a number of pods among the other revisions: each gets its ready ones, `base` the rest."""
        others = [item for item in self.live if item.revision != apart]
        others.sort(key=lambda item: item is not base)
        sizes: dict[str, int] = {}
        left = budget
        for item in others:
            sizes[item.revision] = min(self.ready(item.revision), left)
            left -= sizes[item.revision]
        if base is not None and base.revision in sizes:
            sizes[base.revision] += left
        return sizes
