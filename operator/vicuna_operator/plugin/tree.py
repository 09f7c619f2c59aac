"""`kubectl vicuna status`: a model, its Jobs, revisions and pods as a tree, each with its problem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vicuna_operator.api.conditions import ConditionType, find_condition
from vicuna_operator.planning.blocking import find_blocking_reason
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.failures import merge_failure, server_failure
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.sizes import ready_pods
from vicuna_operator.plugin.model_objects import ModelObjects

__all__ = ["Node", "render", "status_tree"]

_WIDTH = 400  # of a cause; the whole of it is on the object


@dataclass(frozen=True)
class Node:
    """One object: its kind, name and state, and the cause of a bad state."""

    kind: str
    name: str
    state: str
    cause: str = ""
    children: Sequence["Node"] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        """Return the tree for machines."""
        fields = {"kind": self.kind, "name": self.name, "state": self.state, "cause": self.cause}
        return {key: value for key, value in fields.items() if value} | (
            {"children": [child.as_dict() for child in self.children]} if self.children else {}
        )


def status_tree(objects: ModelObjects) -> Node:
    """Build the tree of a model."""
    status = objects.status
    state = f"{status.get('phase') or 'not seen by an operator yet'}, {status.get('ready', '0/0')} ready"
    cause = _not_ready(status) or _drifted(status) or _outdated(status) or _last_failure(status)
    children = [_weights(objects), *(_revision(objects, item) for item in _shown(objects))]
    if scaling := status.get("autoscaling"):
        told = f"{scaling.get('desiredReplicas')} wanted: {scaling.get('message', '')}"
        children.append(Node("autoscaling of", objects.model.name, told))
    endpoint = str(status.get("endpoint", ""))
    if endpoint:
        children.append(Node("Service", objects.model.name, endpoint))
    name = f"{objects.model.namespace}/{objects.model.name}"
    return Node("VicunaModel", name, state, cause, children)


def _not_ready(status: Mapping[str, Any]) -> str:
    ready = find_condition(status, ConditionType.READY)
    fine = ready.get("status") == "True"
    return "" if fine else f"{ready.get('reason', '')}: {ready.get('message', '')}".strip(": ")


def _drifted(status: Mapping[str, Any]) -> str:
    drifted = find_condition(status, ConditionType.DRIFTED)
    return f"{drifted.get('reason', '')}: {drifted.get('message', '')}" if drifted.get("status") == "True" else ""


def _outdated(status: Mapping[str, Any]) -> str:
    hint = "runs on an older default image; `kubectl vicuna upgrade` takes the present one"
    return hint if status.get("imageOutdated") else ""


def _shown(objects: ModelObjects) -> Sequence[DeploymentView]:
    """Return the revisions that have pods or are in the status, the active one first."""
    shown = [item for item in objects.deployments if item.replicas or item.current or _noted(objects, item)]
    return sorted(shown, key=lambda item: (item.revision != objects.revision_in("active"), item.meta.name))


def render(node: Node) -> str:
    """Draw a tree, a line for each thing and each cause."""
    return "\n".join(_lines(node, "", ""))


def _lines(node: Node, first: str, rest: str) -> list[str]:
    lines = [f"{first}{node.kind} {node.name}: {node.state}"]
    below = "│  " if node.children else "   "
    lines += [f"{rest}{below}{line}" for line in _short(node.cause).splitlines()]
    for child in node.children:
        last = child is node.children[-1]
        lines += _lines(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
    return lines


def _weights(objects: ModelObjects) -> Node:
    artifact = next((str((objects.status.get(key) or {}).get("artifactID")) for key in ("target", "active")), "")
    condition = find_condition(objects.status, ConditionType.WEIGHTS_READY)
    merge = objects.status.get("merge") or {}
    if condition.get("status") == "True":
        state, cause = f"artifact {artifact}", ""
    else:
        percent = f", {merge['percent']} % merged" if "percent" in merge else ""
        state, cause = f"{condition.get('reason', 'unknown')}{percent}", str(condition.get("message", ""))
    jobs = [_job(objects, job) for job in sorted(objects.jobs, key=lambda job: job.attempt) if not job.is_prune]
    return Node("weights of", objects.model.name, state, cause, [*map(_claim, objects.claims), *jobs])


def _claim(claim: ClaimView) -> Node:
    return Node("PersistentVolumeClaim", claim.meta.name, f"{claim.phase} {claim.capacity}".strip())


def _job(objects: ModelObjects, job: JobView) -> Node:
    pods = [pod for pod in objects.pods if pod.job_name == job.meta.name]
    children = [_pod(objects, pod) for pod in pods]
    if job.failed:
        failure = merge_failure(job, pods[0] if pods else None)
        return Node("Job", job.meta.name, "failed", f"{failure.reason}: {failure.message}", children)
    return Node("Job", job.meta.name, "succeeded" if job.succeeded else "running", "", children)


def _revision(objects: ModelObjects, item: DeploymentView) -> Node:
    pods = [pod for pod in objects.pods if pod.revision == item.revision]
    ready = ready_pods(pods, item.revision)
    roles = [member for member in ("active", "target") if item.revision == objects.revision_in(member)]
    state = ", ".join([*roles, f"{ready} of {item.replicas} ready", *item.images.values()])
    failed = item.failed or {}
    cause = f"{failed['reason']}: {failed.get('message', '')}" if "reason" in failed else item.refused
    return Node("revision", item.revision, state, cause, [_pod(objects, pod) for pod in pods])


def _pod(objects: ModelObjects, pod: PodView) -> Node:
    where = f" on {pod.node}" if pod.node else ""
    if pod.meta.deleting:
        return Node("Pod", pod.meta.name, f"stopping{where}")
    if pod.ready:
        return Node("Pod", pod.meta.name, f"ready{where}")
    if pod.terminated is not None and pod.terminated.exit_code == 0 and not pod.with_engine:
        return Node("Pod", pod.meta.name, "done")
    state = "running, not ready" if pod.running else pod.phase.lower()
    restarts = f", {pod.restarts} restarts" if pod.restarts else ""
    return Node("Pod", pod.meta.name, f"{state}{restarts}{where}", _pod_cause(objects, pod))


def _pod_cause(objects: ModelObjects, pod: PodView) -> str:
    found = find_blocking_reason(pod, objects.events.get(pod.meta.uid, ()))
    diagnosis = found or (server_failure(pod) if pod.is_server else None)
    return f"{diagnosis.reason}: {diagnosis.message}" if diagnosis is not None else ""


def _last_failure(status: Mapping[str, Any]) -> str:
    last = status.get("lastFailure")
    return f"last failure {last.get('time', '')}: {last['reason']}: {last.get('message', '')}" if last else ""


def _noted(objects: ModelObjects, item: DeploymentView) -> bool:
    return item.revision in (objects.revision_in("active"), objects.revision_in("target"))


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
