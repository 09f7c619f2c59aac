"""How many pods each revision's Deployment should have now: formulas over what exists, nothing remembered.

Whatever the strategy, a pod that is ready goes only when another is ready in its place (Drain: one less than that),
and terminating pods count as long as they exist, because each still holds its GPUs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.observed import PodView

__all__ = ["Fleet", "ready_pods"]


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

    def others_serve(self, revision: str) -> bool:
        """Tell whether pods of another revision take traffic."""
        return any(self.ready(item.revision) for item in self.live if item.revision != revision)

    def all_on(self, revision: str) -> Mapping[str, int]:
        """Give everything to one revision, at once."""
        return {**{item.revision: 0 for item in self.live}, revision: self.wanted}

    def roll(self, target: str, base: DeploymentView | None, strategy: str) -> Mapping[str, int]:
        """Take the next step towards `target`; `base` is the revision that fills up what the others lack."""
        ready, elsewhere = self.ready(target), self.elsewhere(target)
        has = self._replicas(target)
        if strategy == "Surge":
            keep = self.wanted - ready
            start = ready + 1 if has > ready or elsewhere <= self.wanted else ready
        elif strategy == "Drain":
            keep, start = self.wanted - 1 - ready, self.wanted - elsewhere
        else:
            keep, start = 0, self.wanted if elsewhere == 0 else 0
        sizes = self._shares(target, base, max(0, min(keep, self.wanted)))
        return {**sizes, target: min(self.wanted, max(ready, start))}

    def restore(self, good: DeploymentView) -> Mapping[str, int]:
        """Take the next step back to `good`; what else is ready stays until one replica less than wanted is."""
        ready, elsewhere = self.ready(good.revision), self.elsewhere(good.revision)
        start = max(good.replicas, self.wanted + 1 - elsewhere)
        sizes = self._shares(good.revision, None, max(0, self.wanted - 1 - ready))
        return {**sizes, good.revision: min(self.wanted, max(0, start))}

    def longest_unscheduled(self, revision: str, now: datetime) -> float | None:
        """Return for how many seconds a pod of the revision has waited for a node; None when none waits."""
        return max(
            (
                (now - pod.unscheduled_since).total_seconds()
                for pod in self.pods
                if pod.revision == revision and pod.unscheduled_since is not None and not pod.meta.deleting
            ),
            default=None,
        )

    def _replicas(self, revision: str) -> int:
        return next((item.replicas for item in self.live if item.revision == revision), 0)

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
