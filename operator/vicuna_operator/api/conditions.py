"""Condition types, reasons and phases of a VicunaModel's status.

Conditions follow metav1.Condition; how tools read them: kstatus
(https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from vicuna_contract import reasons

__all__ = [
    "CALM_REASONS",
    "Condition",
    "ConditionType",
    "Outcome",
    "Phase",
    "Reason",
    "find_condition",
    "format_time",
    "merge_conditions",
    "one_line",
    "parse_time",
]

MAX_MESSAGE = 2048


class Phase(StrEnum):
    """A one-word summary for people, printed by kubectl; never machine state."""

    PENDING = "Pending"
    MERGING = "Merging"
    DEPLOYING = "Deploying"
    READY = "Ready"
    DEGRADED = "Degraded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    ASLEEP = "Asleep"


class Outcome(StrEnum):
    """How a revision's rollout ended, as `status.history` tells."""

    SUCCEEDED = "Succeeded"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"


class ConditionType(StrEnum):
    """The conditions a VicunaModel carries."""

    READY = "Ready"
    WEIGHTS_READY = "WeightsReady"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    STALLED = "Stalled"
    DRIFTED = "Drifted"


class Reason(StrEnum):
    """Reasons the operator itself sets; reasons of the merge and serving containers are passed on as they are."""

    # the object as a whole
    READY = "Ready"
    INVALID_SPEC = "InvalidSpec"
    NOT_ALLOWED = "NotAllowed"
    NAME_CONFLICT = "NameConflict"
    SUSPENDED = "Suspended"
    SCALED_TO_ZERO = "ScaledToZero"
    ASLEEP = "Asleep"
    TWO_SCALERS = "TwoScalers"
    DEMAND_UNKNOWN = "DemandUnknown"
    API_REFUSED = "ApiRefused"
    # weights
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CLAIM_PENDING = "ClaimPending"
    CLAIM_UNBOUND = "ClaimUnbound"
    EXPANSION_REFUSED = "ExpansionRefused"
    STORAGE_CLASS_NOT_FOUND = "StorageClassNotFound"
    MERGE_PENDING = "MergePending"
    MERGING = "Merging"
    MERGED = reasons.MERGED
    MERGE_FAILED = "MergeFailed"
    MERGE_RETRYING = "MergeRetrying"
    # where the cluster is not as the spec says
    CLAIM_TERMINATING = "ClaimTerminating"
    STORAGE_NOT_FOLLOWED = "StorageNotFollowed"
    POD_TEMPLATE_CHANGED = "PodTemplateChanged"
    REWRITTEN = "Rewritten"
    ORPHANED = "Orphaned"
    DELETION_HELD = "DeletionHeld"
    # pods, whatever they run
    UNSCHEDULABLE = "Unschedulable"
    SCHEDULING_GATED = "SchedulingGated"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    VOLUME_MOUNT_FAILED = "VolumeMountFailed"
    SANDBOX_FAILED = "SandboxFailed"
    NODE_REFUSED = "NodeRefused"
    INIT_CONTAINER_FAILED = "InitContainerFailed"
    SIDECAR_FAILED = "SidecarFailed"
    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    CRASHED = "Crashed"
    ENGINE_CRASHED = "EngineCrashed"
    POD_LOST = "PodLost"
    PODS_REFUSED = "PodsRefused"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_REFUSED = "AdmissionRefused"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105  # a reason
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    PROBE_FAILED = "ProbeFailed"
    # serving
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    PARTLY_AVAILABLE = "PartlyAvailable"
    NO_READY_PODS = "NoReadyPods"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    ROLLED_BACK = "RolledBack"
    COMPLETE = "Complete"
    IDLE = "Idle"


# Reasons of Ready without a fault; every other reason makes a Warning Event.
CALM_REASONS = frozenset(
    {
        Reason.READY,
        Reason.SUSPENDED,
        Reason.SCALED_TO_ZERO,
        Reason.ASLEEP,
        Reason.CLAIM_PENDING,
        Reason.MERGE_PENDING,
        Reason.MERGING,
        Reason.STARTING,
        Reason.ROLLING_OUT,
        Reason.PARTLY_AVAILABLE,
    }
)


@dataclass(frozen=True)
class Condition:
    """One condition before it gets its times: status True, False or Unknown (None)."""

    type: ConditionType
    status: bool | None
    reason: str
    message: str = ""


def merge_conditions(
    new: Iterable[Condition], old: Iterable[Mapping[str, Any]], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Render conditions as metav1.Condition; lastTransitionTime moves only when the status does."""
    before = {str(item.get("type")): item for item in old}
    rendered = []
    for condition in new:
        status = {True: "True", False: "False", None: "Unknown"}[condition.status]
        last = before.get(condition.type, {})
        same = last.get("status") == status and last.get("lastTransitionTime")
        rendered.append(
            {
                "type": str(condition.type),
                "status": status,
                "reason": str(condition.reason),
                # Never empty: some API servers take an empty string for a missing one, and the field is required.
                "message": one_line(condition.message)[:MAX_MESSAGE] or str(condition.reason),
                "observedGeneration": generation,
                "lastTransitionTime": last["lastTransitionTime"] if same else format_time(now),
            }
        )
    return rendered


def find_condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Find a condition in a status by its type; empty where it is not there."""
    return next((item for item in status.get("conditions") or () if item.get("type") == kind), {})


def one_line(text: str) -> str:
    """Return a message as one line: tools show conditions in tables and lists."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())


def format_time(moment: datetime) -> str:
    """Render a UTC time as RFC 3339 with whole seconds, as metav1.Time does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time."""
    return datetime.fromisoformat(text)
