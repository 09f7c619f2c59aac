"""A cluster in memory with one VicunaModel: an API server, the model's user, and the controllers of Kubernetes.

Nothing moves by itself. Job controller, Deployment controller, scheduler and kubelet do one round when told, and time
passes by `tick`. What is read is a copy: a change to it counts once it is `put`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from support.memory_kube import Body, MemoryKube
from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time, parse_time

NAMESPACE = "team"
_SCHEDULED = {"type": "PodScheduled", "status": "True"}


def model_body(name: str = "demo", **spec: Any) -> Body:
    """Return a small valid VicunaModel; keyword arguments replace parts of the spec."""
    weights = {"base": {"source": "pvc://inputs/base"}, "delta": {"source": "pvc://inputs/delta"}}
    return {
        "apiVersion": c.API_VERSION,
        "kind": c.KIND,
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": 1},
        "spec": {"weights": weights, "storage": {"size": "10Gi"}, **spec},
    }


class Cluster:
    """One namespace with one VicunaModel and a bound claim `inputs`; deleted pods stay for a round."""

    def __init__(self, body: Body, *, gpus: int = 100) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.kube = MemoryKube(now=lambda: self.now, lingers={"Pod"})
        self.kube.groups.add("policy/v1")
        self.name = body["metadata"]["name"]
        self.gpus = gpus
        self.silent: set[str] = set()  # revisions whose servers run and never become ready
        self.stream_seconds = 0.0  # how long a pod that is told to end goes on answering
        self.stuck: set[str] = set()  # pods that never end: their node is dead, or a finalizer holds them
        self.gated: set[str] = set()  # revisions whose pods are born with a scheduling gate
        self.lacks: dict[str, str] = {}  # revision → why the scheduler has no place for its pods, whatever is free
        self.crashing: dict[str, Body] = {}  # revision → how its server ends, again and again
        self.kube.restore(body, NAMESPACE)
        self.add_claim("inputs")

    # what there is

    @property
    def body(self) -> Body:
        return self.find(c.KIND, self.name)

    @property
    def status(self) -> Body:
        found: Body = self.body.get("status") or {}
        return found

    def condition(self, kind: str) -> Body:
        return next((item for item in self.status.get("conditions") or () if item["type"] == kind), {})

    def all(self, kind: str) -> list[Body]:
        return self.kube.objects(kind, NAMESPACE)

    def only(self, kind: str) -> Body:
        (item,) = self.all(kind)
        return item

    def find(self, kind: str, name: str) -> Body:
        found = self.kube.find(kind, name, NAMESPACE)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def server_pods(self) -> list[Body]:
        """The pods of Deployments that have not ended for good."""
        pods = [pod for pod in self.all("Pod") if pod["metadata"]["labels"].get(c.LABEL_NAME) == c.NAME_SERVER]
        return [pod for pod in pods if pod["status"]["phase"] not in ("Failed", "Succeeded")]

    def ready_pods(self) -> list[Body]:
        return [pod for pod in self.server_pods() if _is_ready(pod) and not _is_leaving(pod)]

    def gpus_in_use(self) -> int:
        return sum(_gpus(pod) for pod in self.server_pods() if _has_node(pod))

    # what users do

    def put(self, body: Mapping[str, Any]) -> Body:
        return self.kube.put(body, NAMESPACE)

    def remove(self, body: Mapping[str, Any]) -> None:
        """Take an object away at once."""
        self.kube.remove(body["kind"], body["metadata"]["name"], NAMESPACE)

    def edit(self, **spec: Any) -> None:
        """Change the spec as `kubectl patch --type merge` would."""
        self.kube.change(c.KIND, self.name, {"spec": spec}, NAMESPACE)

    def annotate(self, key: str, value: str) -> None:
        """Set an annotation, which does not change the generation."""
        self.kube.change(c.KIND, self.name, {"metadata": {"annotations": {key: value}}}, NAMESPACE)

    def lose_status(self) -> None:
        """Bring the model back from a backup, which has no status."""
        self.kube.change(c.KIND, self.name, {"status": None}, NAMESPACE)

    def add_claim(self, name: str, **labels: str) -> None:
        """Make a bound claim that is not the operator's."""
        metadata = {"name": name, "labels": labels}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata}
        bound = {"phase": "Bound", "capacity": {"storage": "10Gi"}}
        self.put({**claim, "spec": {"accessModes": ["ReadWriteOnce"]}, "status": bound})

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    # what the controllers do

    def run_job(self, job: Body, **state: Any) -> Body:
        """Show the pod of a Job on its node, its container in this state."""
        phase = "Running" if "running" in state else "Pending"
        if "terminated" in state:
            phase = "Failed" if state["terminated"]["exitCode"] else "Succeeded"
        status = {"phase": phase, "conditions": [_SCHEDULED], "containerStatuses": [{"name": "merge", "state": state}]}
        name = job["metadata"]["name"]
        return self._put_pod(job, f"{name}-abcde", {"job-name": name}, {"nodeName": "n1"}, status)

    def finish_job(self, job: Body, exit_code: int, message: str, reason: str = "") -> None:
        """End the pod of a Job, and the Job with it."""
        moment = format_time(self.now)
        self.run_job(
            job, terminated={"exitCode": exit_code, "message": message, "reason": reason, "finishedAt": moment}
        )
        done = {"type": "Failed" if exit_code else "Complete", "status": "True", "lastTransitionTime": moment}
        self.kube.change("Job", job["metadata"]["name"], {"status": {"conditions": [done]}}, NAMESPACE)

    def run_deployments(self) -> None:
        """Do one round of Deployment controller and scheduler: pods leave, are told to leave, are made and placed."""
        self.kube.finish_deletion(self._has_ended)
        pods = [pod for pod in self.server_pods() if not _is_leaving(pod)]
        for deployment in self.all("Deployment"):
            name, wanted = deployment["metadata"]["name"], deployment["spec"]["replicas"]
            uid = deployment["metadata"]["uid"]
            staying = [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["uid"] == uid]
            for pod in sorted(staying, key=_is_ready)[: max(0, len(staying) - wanted)]:
                self.kube.start_deletion("Pod", pod["metadata"]["name"], NAMESPACE)
            spec = _pod_spec(deployment)
            for _ in range(wanted - len(staying)):
                new = f"{name}-{self.kube.version:05d}"  # never used before, and sorted by age
                self._put_pod(deployment, new, {}, spec, {"phase": "Pending", "conditions": []})
            if (deployment.get("status") or {}).get("replicas") != wanted:
                self.kube.change("Deployment", name, {"status": {"replicas": wanted}}, NAMESPACE)
        self._schedule()

    def _has_ended(self, body: Body) -> bool:
        metadata = body["metadata"]
        told = parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=metadata["deletionGracePeriodSeconds"])
        waits = self.stream_seconds if "nodeName" in (body.get("spec") or {}) else 0.0
        return metadata["name"] not in self.stuck and self.now >= told + timedelta(seconds=waits)

    def _schedule(self) -> None:
        waiting = [pod for pod in self.server_pods() if not (_has_node(pod) or _is_leaving(pod))]
        free = self.gpus - self.gpus_in_use() if waiting else 0
        for pod in waiting:
            word, message = self._verdict(pod, free)
            if not word:
                free -= _gpus(pod)
                placed = {**_SCHEDULED, "lastTransitionTime": format_time(self.now)}
                self._change_pod(pod, {"spec": {"nodeName": "n1"}, "status": {"conditions": [placed]}})
                continue
            before: Body = next(iter(pod["status"]["conditions"]), {})
            condition = {"type": "PodScheduled", "status": "False", "reason": word, "message": message}
            condition["lastTransitionTime"] = before.get("lastTransitionTime") or format_time(self.now)
            if condition != before:
                self._change_pod(pod, {"status": {"conditions": [condition]}})

    def _verdict(self, pod: Body, free: int) -> tuple[str, str]:
        """Return why a pod gets no place; two empty texts where it gets one."""
        revision = pod["metadata"]["labels"][c.LABEL_REVISION]
        if revision in self.gated:
            return "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"
        if revision in self.lacks:
            return "Unschedulable", self.lacks[revision]
        if _gpus(pod) > free:
            return "Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        return "", ""

    def make_ready(self) -> None:
        """Do one round of the kubelet: what has a node loads its model, and is ready unless it crashes or is silent."""
        for pod in self.server_pods():
            if not _has_node(pod) or _is_leaving(pod):
                continue
            revision = pod["metadata"]["labels"][c.LABEL_REVISION]
            crash = self.crashing.get(revision)
            container = {"state": {"running": {}}} if crash is None else _crashed(pod, crash)
            self.set_ready(pod, crash is None and revision not in self.silent, container)

    def set_ready(self, pod: Body, ready: bool, container: Body | None = None) -> None:
        """Let the kubelet report a pod's readiness, and the state of its container where it is given."""
        status = dict(pod["status"])
        if container is not None:
            beside = [{"name": item["name"], "state": {"running": {}}} for item in pod["spec"]["containers"][1:]]
            status["containerStatuses"] = [{"name": "server", **container}, *beside]
        before: Body = next((item for item in pod["status"]["conditions"] if item["type"] == "Ready"), {})
        if before.get("status") != str(ready):
            others = [item for item in pod["status"]["conditions"] if item["type"] != "Ready"]
            now = {"type": "Ready", "status": str(ready), "lastTransitionTime": format_time(self.now)}
            status["conditions"] = [*others, now]
        if status != pod["status"]:
            self._change_pod(pod, {"status": status})

    def _change_pod(self, pod: Body, patch: Body) -> None:
        self.kube.change("Pod", pod["metadata"]["name"], patch, NAMESPACE)

    def _put_pod(self, owner: Body, name: str, labels: Mapping[str, str], spec: Body, status: Body) -> Body:
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        labels = {**owner["spec"]["template"]["metadata"]["labels"], **labels}
        metadata = {"name": name, "labels": labels, "ownerReferences": [reference]}
        return self.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})


def _crashed(pod: Body, ended: Body) -> Body:
    """Return a container's state after one more crash: the first is plain to see, later ones wait for a restart."""
    before = (pod["status"].get("containerStatuses") or [{}])[0]
    restarts = before.get("restartCount", -1) + 1
    if restarts == 0:
        return {"state": {"terminated": ended}, "lastState": {}, "restartCount": 0}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    return {"state": waiting, "lastState": {"terminated": ended}, "restartCount": restarts}


def _pod_spec(deployment: Body) -> Body:
    template = deployment["spec"]["template"]["spec"]
    return {key: template[key] for key in ("containers", "terminationGracePeriodSeconds") if key in template}


def _gpus(pod: Body) -> int:
    limits = [container.get("resources", {}).get("limits", {}) for container in pod["spec"]["containers"]]
    return sum(int(limit.get("nvidia.com/gpu", 0)) for limit in limits)


def _is_ready(pod: Body) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"]["conditions"])


def _is_leaving(pod: Body) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _has_node(pod: Body) -> bool:
    return "nodeName" in pod["spec"]
