"""What blocks a pod from being created, from starting or from getting ready: one reason, and the next step.

Where the words come from: reasons and messages of the kubelet, scheduler, volume and admission controllers, as
https://kubernetes.io/docs/tasks/debug/debug-application/ shows them; tests quote them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vicuna_contract import names as c
from vicuna_operator.api.conditions import Reason
from vicuna_operator.planning.containers import ContainerView
from vicuna_operator.planning.observed import ClaimView, EventView
from vicuna_operator.planning.pods import PodView

__all__ = [
    "BlockingReason",
    "claim_blocking_reason",
    "find_blocking_reason",
    "is_admission",
    "refusal",
    "unbound_claims",
    "waits_for_volume",
]

_MOUNT_EVENTS = {"FailedMount", "FailedAttachVolume", "FailedMapVolume"}
_SANDBOX_EVENTS = {"FailedCreatePodSandBox", "FailedPodSandBoxStatus", "NetworkNotReady"}
_DEVICE_EVENTS = {"FailedPrepareDynamicResources", "UnexpectedAdmissionError"}
# Events that come only after volumes, devices and sandbox are there.
_PAST = {"Pulling", "Pulled", "Created", "Started"}
_PULL_FAILURES = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_CONFIG_FAILURES = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_ABSENT = re.compile(r"(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found", re.IGNORECASE)
_KEY_ABSENT = re.compile(r"references non-existent (?P<kind>secret|config) key: (?P<key>\S+)")
_CLASS_ABSENT = re.compile(r"storageclass\S* \"(?P<name>[^\"]*)\" not found", re.IGNORECASE)
_UNBOUND = re.compile(r"unbound immediate persistentvolumeclaims?", re.IGNORECASE)
_KILLED_BY_PROBE = re.compile(r"(Container (?P<name>\S+) )?failed (?P<probe>liveness|startup) probe")
# /readyz answers 503 while the model loads: that is not a failure.
_LOADING = "statuscode: 503"
_ENGINE_HUNG = "the kubelet restarts vLLM: requests ran, and it generated nothing"
_SEE_LOGS = "see `kubectl vicuna logs` for what it does instead"


@dataclass(frozen=True)
class BlockingReason:
    """Why something does not go on although it has not ended; the message is the cause, `; ` and the next step."""

    reason: str
    message: str

    @property
    def step(self) -> str:
        """Return the next step; empty where it is not known."""
        return "" if self.reason == Reason.PODS_REFUSED else self.message.rpartition("; ")[2]


def find_blocking_reason(pod: PodView | None, events: Sequence[EventView]) -> BlockingReason | None:
    """Tell what blocks a pod, or its creation where `pod` is None; None when nothing is known to."""
    if pod is None:
        return _not_made(events)
    return _waiting(pod) or _beside(pod) or _not_begun(pod, events) or _probe(pod, events)


def _not_made(events: Sequence[EventView]) -> BlockingReason | None:
    refused = [event.message for event in events if event.reason == "FailedCreate"]
    return refusal(refused[-1]) if refused else None


def _waiting(pod: PodView) -> BlockingReason | None:
    """Tell what the pod itself says that it waits for: a node, its image, or what its container refers to."""
    if pod.gated:
        step = "it starts once the controller that set the scheduling gate removes it (Kueue: see its queue and quota)"
        return BlockingReason(Reason.SCHEDULING_GATED, f"scheduler: {pod.unschedulable or 'the pod is gated'}; {step}")
    if pod.unschedulable:
        step = "free or add nodes that have it, or ask for less"
        if "volume node affinity conflict" in pod.unschedulable:
            step = (
                "the volume belongs to a zone or node that has no room for the pod: state where the GPUs are in"
                " spec.serving.nodeSelector before the volume is made, or use a volume that can be shared"
            )
        return BlockingReason(Reason.UNSCHEDULABLE, f"scheduler: {pod.unschedulable}; {step}")
    if pod.waiting_reason in _PULL_FAILURES:
        return _no_image(pod)
    if pod.waiting_reason in _CONFIG_FAILURES:
        cause = pod.waiting_message or pod.waiting_reason
        return _absent(cause) or BlockingReason(
            Reason.CONTAINER_CONFIG_ERROR, f"{cause}; correct what the pod refers to"
        )
    return None


def _no_image(pod: PodView) -> BlockingReason:
    field = " (spec.serving.engineImage)" if pod.container == c.ENGINE_CONTAINER else ""
    step = f"check the image's name{field}, and spec.serving.imagePullSecrets where the registry is private"
    return BlockingReason(Reason.IMAGE_PULL_FAILED, f"{pod.waiting_message or pod.waiting_reason}; {step}")


def _not_begun(pod: PodView, events: Sequence[EventView]) -> BlockingReason | None:
    """Tell what node, volume or network controllers report about a pod whose container has never started."""
    if pod.running or pod.terminated or pod.last_terminated:
        return None
    for event in reversed(events):
        if event.reason in _PAST:
            return None
        if event.type == "Warning" and (found := _complaint(event)) is not None:
            return found
    return None


def _complaint(event: EventView) -> BlockingReason | None:
    if event.reason in _MOUNT_EVENTS:
        step = "check that the volume exists and is used on one node only, unless it can be shared"
        return _absent(event.message) or BlockingReason(Reason.VOLUME_MOUNT_FAILED, f"{event.message}; {step}")
    if event.reason in _SANDBOX_EVENTS:
        step = (
            "ask the node's administrator to check its network plugin, its free addresses and the pod's runtime class"
        )
        return BlockingReason(Reason.SANDBOX_FAILED, f"{event.message}; {step}")
    if event.reason in _DEVICE_EVENTS:
        step = "check that the device plugin or driver of the node works and has free devices"
        return BlockingReason(Reason.NODE_REFUSED, f"{event.reason}: {event.message}; {step}")
    return None


def _beside(pod: PodView) -> BlockingReason | None:
    """Tell which added container, such as a service mesh's proxy, keeps the pod from being ready."""
    for kind, reason, found in (
        ("init container", Reason.INIT_CONTAINER_FAILED, pod.init),
        ("sidecar", Reason.SIDECAR_FAILED, pod.others),
    ):
        for item in found:
            if cause := _fails(item):
                step = f"see `kubectl logs {pod.meta.name} --container={item.name}`, or ask who adds it to pods"
                return BlockingReason(reason, f"{kind} {item.name}: {cause}; {step}")
    return None


def _fails(item: ContainerView) -> str:
    """Say how a container fails; empty where it does not."""
    last = item.terminated or item.last_terminated
    ended = f"ended with exit code {last.exit_code} ({last.reason})" if last is not None and last.exit_code else ""
    if item.waiting_reason in _PULL_FAILURES | _CONFIG_FAILURES | {"CrashLoopBackOff"}:
        return ended or item.waiting_message or item.waiting_reason
    return ended if item.terminated is not None else ""


def refusal(message: str) -> BlockingReason:
    """Tell who refuses to create an object: a quota, an admission webhook or policy, or RBAC."""
    text = message.lower()
    if "must specify" in text:
        step = "the ResourceQuota wants that stated: set it in spec.merge.resources and spec.serving.resources"
        return BlockingReason(Reason.QUOTA_EXCEEDED, f"{message}; {step}")
    if "exceeded quota" in text:
        return BlockingReason(
            Reason.QUOTA_EXCEEDED, f"{message}; raise the ResourceQuota, free some of it, or ask for less"
        )
    if "security context constraint" in text:
        step = (
            "let the platform choose the user: the chart's value platformUser, or a service account that may use an SCC"
            " with a fixed user in spec.serving.serviceAccountName"
        )
        return BlockingReason(Reason.ADMISSION_REFUSED, f"{message}; {step}")
    if is_admission(message):
        step = "correct what it objects to, or ask its administrator for an exception"
        return BlockingReason(Reason.ADMISSION_REFUSED, f"{message}; {step}")
    if "storageclass that provisions the pvc must support resize" in text:
        step = "set spec.storage.size back, or use a StorageClass with allowVolumeExpansion"
        return BlockingReason(Reason.EXPANSION_REFUSED, f"{message}; {step}")
    return BlockingReason(Reason.PODS_REFUSED, f"pods cannot be created: {message}")


def is_admission(message: str) -> bool:
    """Tell whether an admission webhook, a policy or Pod Security refuses, and not the API server itself."""
    text = message.lower()
    return "admission webhook" in text or "failed calling webhook" in text or "violates podsecurity" in text


def unbound_claims(claims: Iterable[ClaimView | None]) -> list[ClaimView]:
    """Return the claims that have no volume yet; their Events may say why."""
    return [claim for claim in claims if claim is not None and claim.phase == "Pending"]


def waits_for_volume(pod: PodView | None, found: BlockingReason) -> bool:
    """Tell whether a pod is unschedulable only because the volume of a claim is not there yet."""
    return pod is not None and found.reason == Reason.UNSCHEDULABLE and bool(_UNBOUND.search(pod.unschedulable))


def claim_blocking_reason(
    claims: Sequence[ClaimView], events: Mapping[str, Sequence[EventView]]
) -> BlockingReason | None:
    """Tell why a claim has no volume; None where no Event says so, as while it waits for its first pod."""
    for claim in claims:
        for event in reversed(events.get(claim.meta.uid, ())):
            where = f"PersistentVolumeClaim {claim.meta.name}: {event.message}"
            if match := _CLASS_ABSENT.search(event.message):
                step = f"create StorageClass {match['name']}, or correct spec.storage.storageClassName on a new claim"
                return BlockingReason(Reason.STORAGE_CLASS_NOT_FOUND, f"{where}; {step}")
            if event.reason in {"ProvisioningFailed", "FailedBinding"}:
                step = "provide a volume, or set spec.storage.storageClassName to a class that makes them"
                return BlockingReason(Reason.CLAIM_UNBOUND, f"{where}; {step}")
    return None


def _absent(message: str) -> BlockingReason | None:
    if key := _KEY_ABSENT.search(message):
        holder = "Secret" if key["kind"] == "secret" else "ConfigMap"
        return BlockingReason(Reason.CONTAINER_CONFIG_ERROR, f"{message}; add the key {key['key']} to the {holder}")
    match = _ABSENT.search(message)
    if match is None:
        return None
    secret = match["kind"].lower() == "secret"
    kind, reason = ("Secret", Reason.SECRET_NOT_FOUND) if secret else ("ConfigMap", Reason.CONFIG_MAP_NOT_FOUND)
    return BlockingReason(reason, f"{message}; create {kind} {match['name']}, or correct its name in the spec")


def _probe(pod: PodView, events: Sequence[EventView]) -> BlockingReason | None:
    complaints = [event.message for event in events if event.reason == "Unhealthy" and _LOADING not in event.message]
    return _killed(events, complaints) or _silent(pod, complaints)


def _killed(events: Sequence[EventView], complaints: Sequence[str]) -> BlockingReason | None:
    """Tell which probe the kubelet kills the container for."""
    cause = f": {complaints[-1]}" if complaints else ""
    for event in reversed(events):
        match = _KILLED_BY_PROBE.search(event.message) if event.reason == "Killing" else None
        if match is not None and match["name"] == c.ENGINE_CONTAINER:
            return BlockingReason(Reason.PROBE_FAILED, f"{_ENGINE_HUNG}{cause}; {_SEE_LOGS} (--engine --previous)")
        if match is not None:
            return BlockingReason(
                Reason.PROBE_FAILED,
                f"the kubelet restarts the container because its {match['probe']} probe fails{cause}; {_SEE_LOGS}",
            )
    return None


def _silent(pod: PodView, complaints: Sequence[str]) -> BlockingReason | None:
    """Tell of a container that runs and is not ready."""
    readiness = [text for text in complaints if text.startswith("Readiness")]
    if pod.running and readiness:
        return BlockingReason(
            Reason.PROBE_FAILED, f"the container runs and does not answer: {readiness[-1]}; {_SEE_LOGS}"
        )
    return None
