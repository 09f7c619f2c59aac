"""Every fault that a user or a cluster can cause has a reason of its own and a next step, within ten seconds.

The words are those of Kubernetes' own components: kubelet, scheduler, volume and admission controllers.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.cluster import model_body
from support.world import World
from vicuna_operator.api.conditions import Reason
from vicuna_operator.planning.blocking import refusal
from vicuna_operator.planning.observed import EventView

Fault = Callable[[World], None]
SECONDS = 10

QUOTA = 'pods "x" is forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4'
WEBHOOK = 'admission webhook "policy.example.com" denied the request: images must be signed'


def says(world: World, uid: str, reason: str, message: str) -> None:
    world.events[uid] = [EventView("Warning", reason, message)]


def merge_waits(reason: str, message: str) -> Fault:
    def fault(world: World) -> None:
        pod = world.job_pod(waiting={"reason": reason, "message": message})
        assert pod

    return fault


def merge_mount(message: str) -> Fault:
    def fault(world: World) -> None:
        pod = world.job_pod(waiting={"reason": "ContainerCreating"})
        says(world, pod["metadata"]["uid"], "FailedMount", message)

    return fault


def merge_event(reason: str, message: str) -> Fault:
    def fault(world: World) -> None:
        pod = world.job_pod(waiting={"reason": "ContainerCreating"})
        says(world, pod["metadata"]["uid"], reason, message)

    return fault


def merge_refused(reason: str, message: str) -> Fault:
    """Let the node not admit the merge's pod: no container has a state."""

    def fault(world: World) -> None:
        world.end_job(1, "")
        pod = world.only("Pod")
        pod["status"] = {"phase": "Failed", "reason": reason, "message": message}
        world.put(pod)

    return fault


def server_status(**status: Any) -> Fault:
    """Let the pod of a server have more in its status."""

    def change(world: World) -> None:
        (pod,) = world.server_pods()
        pod["status"] |= status
        world.put(pod)

    return served(change)


def beside(kind: str, name: str, **item: Any) -> Fault:
    running = [{"name": "server", "state": {"running": {}}}] if kind == "containerStatuses" else []
    return server_status(**{kind: [{"name": name, **item}, *running]})


def merge_ends(exit_code: int, message: str | dict[str, Any], reason: str = "Error") -> Fault:
    text = message if isinstance(message, str) else json.dumps(message)
    return lambda world: world.end_job(exit_code, text, reason=reason)


def merge_pod_state(**status: str) -> Fault:
    def fault(world: World) -> None:
        world.end_job(137, "")
        pod = world.only("Pod")
        pod["status"] |= status
        world.put(pod)

    return fault


def merge_waits_for_node(message: str) -> Fault:
    def fault(world: World) -> None:
        pod = world.job_pod()
        pod["status"] = {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": message}],
        }
        world.put(pod)

    return fault


def server_waits(reason: str, message: str) -> Fault:
    """Let a node or one of its controllers complain of a pod that has not begun."""

    def change(world: World) -> None:
        (pod,) = world.server_pods()
        says(world, pod["metadata"]["uid"], reason, message)

    return served(change)


def unbound(event: str, message: str) -> Fault:
    def fault(world: World) -> None:
        claim = world.find("PersistentVolumeClaim", "demo-weights")
        world.put({**claim, "status": {"phase": "Pending"}})
        says(world, claim["metadata"]["uid"], event, message)
        pod = world.job_pod()
        waits = {"type": "PodScheduled", "status": "False", "message": "pod has unbound immediate claims"}
        pod["status"] = {"phase": "Pending", "conditions": [waits]}
        pod["spec"].pop("nodeName")
        world.put(pod)

    return fault


def job_refused(message: str) -> Fault:
    return lambda world: says(world, world.only("Job")["metadata"]["uid"], "FailedCreate", f"Error creating: {message}")


def served(change: Fault) -> Fault:
    """Let a fault happen to the serving pods of a merged model."""

    def fault(world: World) -> None:
        world.end_job()
        world.reconcile()
        world.run_deployments()
        change(world)

    return fault


def server(state: dict[str, Any], **more: Any) -> Fault:
    def change(world: World) -> None:
        (pod,) = world.server_pods()
        pod["status"]["containerStatuses"] = [{"name": "server", "state": state, **more}]
        world.put(pod)

    return served(change)


def server_event(reason: str, message: str, state: dict[str, Any], **more: Any) -> Fault:
    def change(world: World) -> None:
        (pod,) = world.server_pods()
        pod["status"]["containerStatuses"] = [{"name": "server", "state": state, **more}]
        world.put(pod)
        world.tick(30)  # before that, a server that does not answer is loading
        says(world, pod["metadata"]["uid"], reason, message)

    return served(change)


def server_refused(message: str) -> Fault:
    def change(world: World) -> None:
        for pod in world.server_pods():
            world.remove(pod)
        conditions = [{"type": "ReplicaFailure", "status": "True", "message": message}]
        deployment = world.only("Deployment")
        world.put({**deployment, "status": {**deployment["status"], "conditions": conditions}})

    return served(change)


def unschedulable(world: World) -> None:
    world.gpus = 0
    served(lambda _: None)(world)


def evicted(world: World) -> None:
    def change(world: World) -> None:
        (pod,) = world.server_pods()
        pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
        world.put(pod)

    served(change)(world)


def report(reason: str, message: str, retryable: bool) -> dict[str, Any]:
    return {"reason": reason, "message": message, "retryable": retryable}


OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "loading shard 3"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "Error"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}

# what happens → the reason on the object, and words of its message: the cause and the next step
FAULTS: dict[str, tuple[Fault, str, tuple[str, ...]]] = {
    "image of the merge": (
        merge_waits("ErrImagePull", 'rpc error: pull "nowhere/server:1": not found'),
        "ImagePullFailed",
        ("nowhere/server:1", "check the image's name"),
    ),
    "image of the server": (
        server({"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nowhere/server:1"'}}),
        "ImagePullFailed",
        ("nowhere/server:1", "imagePullSecrets"),
    ),
    "unschedulable GPU": (
        unschedulable,
        "Unschedulable",
        ("1 nvidia.com/gpu", "Insufficient nvidia.com/gpu", "free or add"),
    ),
    "unbound claim": (
        unbound("FailedBinding", "no persistent volumes available for this claim and no storage class is set"),
        "ClaimUnbound",
        ("demo-weights", "no storage class is set", "spec.storage.storageClassName"),
    ),
    "missing StorageClass": (
        unbound("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found'),
        "StorageClassNotFound",
        ("demo-weights", "create StorageClass fast"),
    ),
    "missing Secret": (
        merge_waits("CreateContainerConfigError", 'secret "hf-token" not found'),
        "SecretNotFound",
        ("create Secret hf-token",),
    ),
    "missing Secret on a volume": (
        merge_mount('MountVolume.SetUp failed for volume "hub-token" : secret "hf-token" not found'),
        "SecretNotFound",
        ("create Secret hf-token",),
    ),
    "Secret without the key": (
        merge_mount('MountVolume.SetUp failed for volume "hub-token" : references non-existent secret key: token'),
        "ContainerConfigError",
        ("add the key token to the Secret",),
    ),
    "missing ConfigMap on a volume": (
        merge_mount('MountVolume.SetUp failed for volume "ca" : configmap "corporate-ca" not found'),
        "ConfigMapNotFound",
        ("create ConfigMap corporate-ca",),
    ),
    "missing Secret of a server": (
        server({"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}}),
        "SecretNotFound",
        ("create Secret keys",),
    ),
    "volume that does not mount": (
        merge_mount('Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other'),
        "VolumeMountFailed",
        ("Multi-Attach", "one node only"),
    ),
    "merge out of memory": (
        merge_ends(137, "reading lm_head", "OOMKilled"),
        "OOMKilled",
        ("spec.merge.resources.limits.memory", "reading lm_head"),
    ),
    "server out of memory": (
        server(OOM, restartCount=0),
        "OOMKilled",
        ("spec.serving.resources.limits.memory", "loading shard 3"),
    ),
    "merge evicted": (
        merge_pod_state(reason="Evicted", message="The node was low on resource: ephemeral-storage."),
        "MergeRetrying",
        ("Evicted", "ephemeral-storage", "the operator tries again"),
    ),
    "server evicted": (evicted, "Evicted", ("low on resource: memory", "another pod is made", "free the node")),
    "deadline": (
        merge_pod_state(reason="DeadlineExceeded", message="Pod was active on the node longer than the deadline"),
        "DeadlineExceeded",
        ("raise spec.merge.activeDeadlineSeconds",),
    ),
    "out of space": (
        merge_ends(73, report("OutOfSpace", "the volume lacks 3 GiB; enlarge it", False)),
        "OutOfSpace",
        ("lacks 3 GiB",),
    ),
    "401 of the hub": (
        merge_ends(65, report("SourceForbidden", "401 for org/base: set weights.credentialsSecret", False)),
        "SourceForbidden",
        ("weights.credentialsSecret",),
    ),
    "404 of the hub": (
        merge_ends(65, report("SourceNotFound", "org/base does not exist; correct the source", False)),
        "SourceNotFound",
        ("correct the source",),
    ),
    "bad checkpoint": (
        merge_ends(65, report("TensorMissing", "the delta lacks lm_head.weight", False)),
        "TensorMissing",
        ("lm_head.weight",),
    ),
    "liveness probe": (
        server_event(
            "Killing",
            "Container server failed liveness probe, will be restarted",
            {"running": {}},
            lastState=KILLED,
            restartCount=1,
        ),
        "ProbeFailed",
        ("liveness probe fails", "kubectl vicuna logs"),
    ),
    "readiness probe": (
        server_event("Unhealthy", "Readiness probe failed: context deadline exceeded", {"running": {}}),
        "ProbeFailed",
        ("context deadline exceeded", "kubectl vicuna logs"),
    ),
    "quota at the merge": (job_refused(QUOTA), "QuotaExceeded", ("exceeded quota: team", "raise the ResourceQuota")),
    "quota at the servers": (server_refused(QUOTA), "QuotaExceeded", ("exceeded quota: team", "ask for less")),
    "webhook at the merge": (job_refused(WEBHOOK), "AdmissionRefused", ("must be signed", "its administrator")),
    "webhook at the servers": (server_refused(WEBHOOK), "AdmissionRefused", ("must be signed", "its administrator")),
    "quota that demands limits": (
        job_refused('pods "x" is forbidden: failed quota: team: must specify limits.cpu'),
        "QuotaExceeded",
        ("must specify limits.cpu", "spec.merge.resources"),
    ),
    "volume in another zone": (
        merge_waits_for_node("0/2 nodes are available: 1 Insufficient gpu, 1 volume node affinity conflict"),
        "Unschedulable",
        ("volume node affinity conflict", "spec.serving.nodeSelector"),
    ),
    "sandbox of the merge": (
        merge_event("FailedCreatePodSandBox", 'no runtime for "nvidia" is configured'),
        "SandboxFailed",
        ('no runtime for "nvidia"', "runtime class"),
    ),
    "sandbox of a server": (
        server_waits("FailedCreatePodSandBox", "no IP addresses available in range set"),
        "SandboxFailed",
        ("no IP addresses", "free addresses"),
    ),
    "devices of a server": (
        server_waits("FailedPrepareDynamicResources", "NodePrepareResources failed: claim gpu"),
        "NodeRefused",
        ("NodePrepareResources failed", "device plugin"),
    ),
    "server not admitted": (
        server_status(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed: no healthy devices"),
        "NodeRefused",
        ("node n1", "no healthy devices", "device plugin"),
    ),
    "merge not admitted": (
        merge_refused("OutOfcpu", "Node didn't have enough resource: cpu"),
        "MergeRetrying",
        ("NodeRefused", "OutOfcpu", "enough resource: cpu"),
    ),
    "server whose node was lost": (
        server(
            {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "could not be located"}}
        ),
        "Evicted",
        ("could not be located", "another pod is made"),
    ),
    "init container that crashes": (
        beside("initContainerStatuses", "istio-init", restartCount=3, lastState=KILLED, state=BACK_OFF),
        "InitContainerFailed",
        ("istio-init", "exit code 137", "--container=istio-init"),
    ),
    "sidecar that crashes": (
        beside("containerStatuses", "agent", restartCount=3, lastState=KILLED, state=BACK_OFF),
        "SidecarFailed",
        ("agent", "exit code 137", "--container=agent"),
    ),
    "sidecar whose image is missing": (
        beside("containerStatuses", "agent", state={"waiting": {"reason": "ErrImagePull", "message": "no such tag"}}),
        "SidecarFailed",
        ("agent", "no such tag", "ask who adds it"),
    ),
    "crash without a word": (
        server({"terminated": {"exitCode": 1, "reason": "Error", "message": "Traceback: no such layer"}}),
        "Crashed",
        ("exit code 1", "no such layer", "see its log"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_on_the_object_within_ten_seconds_with_a_reason_and_a_next_step(name: str) -> None:
    fault, reason, words = FAULTS[name]
    world = World(model_body(serving={"replicas": 1}))
    world.reconcile()
    fault(world)
    waited = 0.0
    world.reconcile()
    while world.condition("Ready")["reason"] != reason:
        waited += world.wait()
        world.reconcile()
        assert waited <= SECONDS, f"{world.condition('Ready')} after {waited} s"
    message = world.condition("Ready")["message"]
    assert [word for word in words if word not in message] == [], message
    assert world.condition("Ready")["status"] == "False"
    assert reason == world.status["reason"]
    settled = world.writes
    for _ in range(3):
        world.wait(at_most=2)
        world.reconcile()
    assert world.condition("Ready")["reason"] == reason, "it must not flap"
    assert world.writes == settled, "a fault that stays is written once"


def test_a_model_that_loads_for_minutes_is_not_a_failed_probe() -> None:
    world = World()
    world.reconcile()
    message = "Readiness probe failed: HTTP probe failed with statuscode: 503"
    server_event("Unhealthy", message, {"running": {}})(world)
    for _ in range(10):
        world.wait()
        world.reconcile()
    assert world.condition("Ready")["reason"] == "Starting"


@pytest.mark.parametrize(
    ("message", "reason", "wanted"),
    [
        ("Traceback: the third shard is torn", "Crashed", "Traceback: the third shard is torn"),
        (
            json.dumps({"reason": "ShapeMismatch", "message": "m", "retryable": False, "log": "one\ntwo"}),
            "ShapeMismatch",
            "one\ntwo",
        ),
        (json.dumps({"reason": "ShapeMismatch", "message": "m", "retryable": False}), "ShapeMismatch", None),
        ("x" * 5000, "Crashed", "x" * 2048),
    ],
)
def test_the_last_lines_of_a_container_outlive_its_pod(message: str, reason: str, wanted: str | None) -> None:
    world = World()
    world.reconcile()
    world.end_job(1, message, reason="Error")
    world.reconcile()
    for pod in world.all("Pod"):
        world.remove(pod)
    world.tick(3600)
    world.reconcile()
    last = world.status["lastFailure"]
    assert (last["reason"], last.get("log")) == (reason, wanted)
    if reason == "Crashed":
        assert message[-600:] in last["message"], "where there is no other cause, the message has them too"


def test_a_claim_that_waits_for_its_first_pod_is_not_a_fault() -> None:
    world = World()
    world.reconcile()
    unbound("WaitForFirstConsumer", "waiting for first consumer to be created before binding")(world)
    world.tick(4)
    world.reconcile()
    world.reconcile()
    assert world.condition("Ready")["reason"] == "Unschedulable"


def test_an_evicted_pod_that_nobody_collects_does_not_hold_up_a_rollout() -> None:
    world = World(model_body(serving={"replicas": 1, "rollout": {"strategy": "Recreate"}}))
    world.deploy()
    (pod,) = world.server_pods()
    leftover = json.loads(json.dumps(pod))
    leftover["metadata"] |= {"name": "leftover"}
    leftover["status"] |= {"phase": "Failed", "reason": "Evicted"}
    leftover["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    world.put(leftover)
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    assert world.status["active"]["revision"] == world.status["target"]["revision"]


def test_a_refusal_by_openshift_names_the_value_that_leaves_the_user_to_the_platform() -> None:
    said = (
        'pods "demo-1" is forbidden: unable to validate against any security context constraint: [provider'
        ' "restricted-v2": .spec.securityContext.fsGroup: Invalid value: []int64{65532}: 65532 is not an allowed group]'
    )
    found = refusal(said)
    assert found.reason == Reason.ADMISSION_REFUSED
    assert found.message.startswith(said)
    assert "platformUser" in found.message
