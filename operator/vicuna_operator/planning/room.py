"""Whether stopping a model's pods would make room for a new one: read from the scheduler's own words.

The words are those of the scheduler's plugins, for a pod that fits no node: `0/3 nodes are available: 1 Insufficient
nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector. preemption: …`. Each node is named with what its
first refusing plugin says; taints and node affinity are asked before resources
(https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins).
"""

import re
from collections.abc import Iterator

from vicuna_operator.planning.deployments import DeploymentView

__all__ = ["makes_room"]

_TOTAL = re.compile(r"\b0/(?P<total>\d+) nodes")
_LACK = re.compile(r"(?:(?P<count>\d+) )?(?:Insufficient (?P<resource>[\w./-]*\w)|(?P<pods>Too many pods))")
_BETWEEN_PODS = re.compile(
    r"(?P<count>\d+) node\(s\) (?:didn't match pod anti-affinity rules|didn't satisfy existing pods anti-affinity rules"
    r"|didn't match pod topology spread constraints(?! \(missing)|didn't have free ports)"
)
_CORDONED = re.compile(r"node\(s\) were unschedulable|node\.kubernetes\.io/unschedulable")
_NATIVE = ("cpu", "memory", "ephemeral-storage", "hugepages-")


def makes_room(message: str, incoming: DeploymentView, running: DeploymentView) -> bool:
    """Tell whether a pod of `running` holds what, by the scheduler's message, a pod of `incoming` lacks.

    In doubt it does not: a pod that serves is not stopped for one that could not start in its place either.
    """
    words = message.split("preemption:")[0]
    if _CORDONED.search(words):
        return False  # where the old pod's own node is meant, it could not even come back
    same_place = incoming.placement == running.placement
    helps: list[int] = []
    for resource, count in _lacks(words):
        if _holds(running, resource):
            helps.append(count)
        elif count >= _nodes(words):
            return False  # no node has it, and no pod of ours gives it
    if same_place:
        helps += [int(match["count"]) for match in _BETWEEN_PODS.finditer(words)]
    # Placed by other rules, the old pods' node is surely among those that only lack room if all of them do.
    return bool(helps) and (same_place or max(helps) >= _nodes(words))


def _lacks(words: str) -> Iterator[tuple[str, int]]:
    for match in _LACK.finditer(words):
        yield match["resource"] or "pods", int(match["count"] or 1)


def _nodes(words: str) -> int:
    match = _TOTAL.search(words)
    return int(match["total"]) if match else 1


def _holds(running: DeploymentView, resource: str) -> bool:
    """Tell whether each pod of a Deployment takes some of a resource away from its node."""
    named = "/" in resource or resource.startswith(_NATIVE)
    return not named or resource in running.resources  # "pods", or words of another scheduler
