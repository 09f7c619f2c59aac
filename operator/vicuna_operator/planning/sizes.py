"""How many pods each revision's Deployment should have now: formulas over what exists, nothing remembered.

Whatever the strategy, a pod that is ready goes only when another is ready in its place (Drain: one less than that),
and terminating pods count as long as they may run, because each still holds its GPUs. Past its grace period and a
margin a pod holds nothing that anybody could wait for: its node is dead, or somebody's finalizer keeps the object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.observed import PodView

__all__ = ["LOST_AFTER", "Fleet", "is_lost", "ready_pods"]

LOST_AFTER = timedelta(seconds=60)  # beyond the grace period: the kubelet's last kill, and clocks that differ


def is_lost(pod: PodView, now: datetime) -> bool:
    """Tell whether a pod that was told to end should be gone long since."""
    return pod.ends is not None and now >= pod.ends + LOST_AFTER


def ready_pods(pods: Sequence[PodView], revision_name: str) -> int:
    """Count a revision's pods that take traffic: ready and not on their way out."""
    return sum(1 for pod in pods if pod.revision == revision_name and pod.ready and not pod.meta.deleting)


@dataclass(frozen=True)
class Fleet:
    """All revisions of a model with their pods. `wanted` is the number of replicas once everything is done."""

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
        """Return the pods that hold a place and are ending, which may take as long as their streams do."""
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
            # A pod that waits keeps its turn in the scheduler's queue.
            keep, start = self._left_to_others(target, starved), max(self.wanted - elsewhere, min(has, ready + 1))
        else:
            keep, start = 0, self.wanted if elsewhere == 0 else 0
        sizes = self._shares(target, base, max(0, min(keep, self.wanted)))
        return {**sizes, target: min(self.wanted, max(ready, start))}

    def restore(self, last_known_good: DeploymentView, *, starved: bool) -> Mapping[str, int]:
        """Take the next step back to `last_known_good`; what else is ready stays until one replica less than wanted is."""
        start = max(last_known_good.replicas, self.wanted + 1 - self.elsewhere(last_known_good.revision))
        sizes = self._shares(
            last_known_good.revision, None, max(0, self._left_to_others(last_known_good.revision, starved))
        )
        return {**sizes, last_known_good.revision: min(self.wanted, start)}

    def standing(self, revision: str) -> Sequence[PodView]:
        """Return the pods of all other revisions that have a place and were not told to end."""
        return [pod for pod in self.pods if pod.revision != revision and pod.node and not pod.meta.deleting]

    def queue(self, revision: str) -> Sequence[PodView]:
        """Return the pods of a revision for which the scheduler finds no place; it has not looked at gated ones."""
        mine = [pod for pod in self.pods if pod.revision == revision and not pod.meta.deleting]
        return [pod for pod in mine if pod.unschedulable and not (pod.gated or pod.node)]

    def starting(self, revision: str) -> Sequence[PodView]:
        """Return the pods of a revision that have a place and may become ready."""
        mine = [pod for pod in self.pods if pod.revision == revision and not pod.meta.deleting]
        return [pod for pod in mine if pod.node and not pod.ready]

    def situation(self, revision: str) -> str:
        """Name what a revision waits in, empty where it does not: another text once a pod or a place came or went.

        The scheduler's times are only told apart here, never compared with the operator's clock.
        """
        queue = self.queue(revision)
        if not queue:
            return ""
        youngest = max(format_time(pod.unscheduled_since) if pod.unscheduled_since else "" for pod in queue)
        return f"{len(queue)}/{sum(1 for pod in self.pods if pod.node)}/{youngest}"

    def goes_no_further(self, revision: str) -> bool:
        """Tell whether a revision has all that runs: nothing else does, and what it still wants only waits for room."""
        mine = [pod for pod in self.pods if pod.revision == revision]
        rest = [pod for pod in mine if not pod.ready]
        waits = len(mine) >= self.wanted and all(pod.unschedulable for pod in rest)
        return waits and self.is_alone(revision) and self.ready(revision) > 0

    def is_alone(self, revision: str) -> bool:
        """Tell whether no other revision has pods, nor is to have any."""
        held = any(item.replicas for item in self.live if item.revision != revision)
        return not held and not self.elsewhere(revision)

    def _replicas(self, revision: str) -> int:
        return next((item.replicas for item in self.live if item.revision == revision), 0)

    def _left_to_others(self, revision: str, starved: bool) -> int:
        """Return how many pods the others keep while they make way: of those that run, one less at most.

        Where fewer run than are wanted, one goes only for a pod that waits for just that.
        """
        return min(self.wanted - 1 - self.ready(revision), len(self.standing(revision)) - starved)

    def _shares(self, apart: str, base: DeploymentView | None, budget: int) -> dict[str, int]:
        """Divide a number of pods among the other revisions: to each what is ready, the rest to `base`."""
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
