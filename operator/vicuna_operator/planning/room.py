"""Whether stopping a model's pods would make room for a new one, as the scheduler's message says.

The scheduler's plugins write it for a pod that fits on no node: `0/3 nodes are available: 1 Insufficient
nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector. preemption: …`. Each node is counted with the
first plugin that refuses it; taints and node affinity come before resources
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
    """Tell whether a pod of `running` holds what a pod of `incoming` lacks.

    In doubt it does not: a serving pod must not be stopped for one that could not start in its place either.
    """
    words = message.split("preemption:")[0]
    if _CORDONED.search(words):
        return False  # it may be the running pod's own node, and then that pod could not come back either
    same_place = incoming.placement == running.placement
    helps: list[int] = []
    for resource, count in _lacks(words):
        if _holds(running, resource):
            helps.append(count)
        elif count >= _nodes(words):
            return False  # no node has it, and stopping our pods frees none of it
    if same_place:
        helps += [int(match["count"]) for match in _BETWEEN_PODS.finditer(words)]
    # Under different placement rules, the running pods' node is certain to lack only room if all nodes do.
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
    return not named or resource in running.resources  # not named: "pods", or another scheduler's wording
