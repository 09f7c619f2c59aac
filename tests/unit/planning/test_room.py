"""What the scheduler says, and whether stopping a pod of the old revision would give it what the new one lacks."""

from typing import Any

import pytest

from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.room import makes_room

GPU = {"limits": {"nvidia.com/gpu": "1"}}


def deployment(resources: dict[str, Any] = GPU, **pod: Any) -> DeploymentView:
    template = {"spec": {"containers": [{"image": "i", "resources": resources}], **pod}}
    return DeploymentView.of({"metadata": {"name": "d"}, "spec": {"template": template}})


OLD = deployment()
ELSEWHERE = deployment(nodeSelector={"pool": "a100"})
TOLERANT = deployment(tolerations=[{"key": "gpu", "operator": "Exists"}])

HELPS = [
    ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", OLD, OLD),
    ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption "
     "victims found for incoming pod.", OLD, OLD),
    # the old pods did not fit on the other nodes either
    ("0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector.",
     ELSEWHERE, ELSEWHERE),
    ("0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {node-role.kubernetes.io/"
     "master: }. preemption: 0/3 nodes are available: 1 No preemption victims found, 2 Preemption is not helpful.",
     OLD, OLD),
    ("0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match pod affinity rules.", OLD, OLD),
    # whatever the node of the old pods is, it only lacks room
    ("0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", ELSEWHERE, OLD),
    ("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu.",
     deployment(), deployment({"requests": {"cpu": "4"}, **GPU})),
    ("0/1 nodes are available: 1 Too many pods.", OLD, OLD),
    ("0/1 nodes are available: 1 Insufficient memory.", OLD, deployment({"requests": {"memory": "1Gi"}})),
    ("0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.", OLD, OLD),
    ("0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints.", OLD, OLD),
    ("0/1 nodes: Insufficient GPUs", OLD, OLD),  # words of another scheduler
]  # fmt: skip

DOES_NOT = [
    ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", ELSEWHERE, OLD),
    ("0/1 nodes are available: 1 node(s) didn't match node selector.", ELSEWHERE, OLD),
    ("0/2 nodes are available: 1 node(s) had untolerated taint {gpu: }, 1 Insufficient nvidia.com/gpu.", OLD, TOLERANT),
    ("0/2 nodes are available: 1 node(s) had taint {g: }, that the pod didn't tolerate, 1 Insufficient nvidia.com/gpu.",
     OLD, TOLERANT),
    # full nodes of the other pool; the old pods run where the selector does not lead
    ("0/3 nodes are available: 2 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector.",
     ELSEWHERE, OLD),
    ("0/1 nodes are available: 1 Insufficient nvidia.com/gpuu.", deployment({"limits": {"nvidia.com/gpuu": "1"}}), OLD),
    ("0/1 nodes are available: 1 Insufficient amd.com/gpu.", deployment({"limits": {"amd.com/gpu": "1"}}), OLD),
    ("0/1 nodes are available: 1 Insufficient cpu.", OLD, OLD),
    ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", OLD, deployment({"limits": {"nvidia.com/gpu": "0"}})),
    ("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu.", OLD, OLD),
    ("0/1 nodes are available: 1 Insufficient hugepages-2Mi.", OLD, OLD),
    ("0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) were unschedulable.", OLD, OLD),
    ("0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint "
     "{node.kubernetes.io/unschedulable: }.", OLD, OLD),
    ("0/1 nodes are available: 1 node(s) had volume node affinity conflict.", OLD, OLD),
    ("0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.", ELSEWHERE, OLD),
    ("0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label).",
     OLD, OLD),
    ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 1 Insufficient "
     "nvidia.com/gpu.", ELSEWHERE, OLD),
    ('persistentvolumeclaim "demo-weights" is being deleted', OLD, OLD),
    ("no nodes available to schedule pods", OLD, OLD),
    ("", OLD, OLD),
]  # fmt: skip


@pytest.mark.parametrize(("message", "fresh", "old"), HELPS)
def test_what_the_old_pods_hold_they_can_give(message: str, fresh: DeploymentView, old: DeploymentView) -> None:
    assert makes_room(message, fresh, old)


@pytest.mark.parametrize(("message", "fresh", "old"), DOES_NOT)
def test_nothing_stops_for_what_it_does_not_hold(message: str, fresh: DeploymentView, old: DeploymentView) -> None:
    assert not makes_room(message, fresh, old)
