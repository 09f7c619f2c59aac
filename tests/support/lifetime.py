"""A cluster in memory with an operator that dies and comes back: the real Reconciler on a MemoryKube and watches.

The controllers of Kubernetes (jobs, deployments, scheduler, kubelet) do one round when told; watches deliver at once or
late; users, API errors and crashes come from the test.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from support.memory_kube import Body, Crashed, MemoryKube
from support.memory_snapshot import child_key, model_key
from support.world import CONFIG, model_body
from vicuna_operator.api import constants as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.controller.snapshot import Key, Snapshot
from vicuna_operator.errors import KubeError
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, PodView, ServiceView
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.status import refused

NAMESPACE = "team"
NAME = "demo"
KEY = (NAMESPACE, NAME)

_WATCHED: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Key | None], Callable[[Mapping[str, Any]], Any]]] = {
    "models": (c.KIND, model_key, dict),
    "jobs": ("Job", child_key, JobView.of),
    "deployments": ("Deployment", child_key, DeploymentView.of),
    "pods": ("Pod", child_key, PodView.of),
    "claims": ("PersistentVolumeClaim", child_key, ClaimView.of),
    "services": ("Service", child_key, ServiceView.of),
}


class Watch:
    """An index that hears of changes when `deliver` is called, in order."""

    def __init__(
        self, key: Callable[[Mapping[str, Any]], Key | None], view: Callable[[Mapping[str, Any]], Any]
    ) -> None:
        self._key, self._view = key, view
        self._views: dict[Key, dict[str, Any]] = {}
        self._late: deque[tuple[str, Body]] = deque()

    def hear(self, event: str, body: Body) -> None:
        self._late.append((event, body))

    def deliver(self) -> None:
        while self._late:
            event, body = self._late.popleft()
            key, uid = self._key(body), body["metadata"]["uid"]
            if key is None:
                continue
            found = self._views.setdefault(key, {})
            if event == "DELETED":
                found.pop(uid, None)
            else:
                found[uid] = self._view(body)

    def __contains__(self, key: object) -> bool:
        return key in self._views

    def __iter__(self) -> Iterator[Key]:
        return iter(self._views)

    def __getitem__(self, key: Key) -> Iterable[Any]:
        return list(self._views[key].values())


class Lifetime:
    """One model from its creation on. `trace` is what happened, for the message of a failed test."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.kube = MemoryKube(now=lambda: self.now)
        self.kube.groups.add("policy/v1")
        self.kube.lingers = {"Pod"}
        self.gpus = 3
        self.merge = "ok"  # how merges end: ok, terminal, transient, never
        self.broken: set[str] = set()  # revisions whose server exits with 65
        self.silent: set[str] = set()  # revisions that never get ready
        self.late = False  # watches deliver only when told
        self._claim("inputs")
        self.kube.put(model_body(NAME, serving={"replicas": 2}) | {"metadata": {"name": NAME}}, NAMESPACE)
        self.start()

    # the operator

    def start(self) -> None:
        """Start a new operator: its watches list everything, its memory is empty."""
        watches = {name: Watch(key, view) for name, (_, key, view) in _WATCHED.items()}
        by_kind = {kind: watches[name] for name, (kind, _, _) in _WATCHED.items()}
        for kind, watch in by_kind.items():
            for body in self.kube.objects(kind):
                watch.hear("ADDED", body)
            watch.deliver()
        self._watches = by_kind
        self.kube._listeners[:] = [self._hear]
        self.operator = Reconciler(
            self.kube,
            Snapshot(**watches),
            Planning(plan=plan, claims_to_read=claims_to_read, refused=refused),
            CONFIG,
            now=lambda: self.now,
            clock=self.now.timestamp,
        )

    def _hear(self, event: str, body: Body) -> None:
        watch = self._watches.get(body["kind"])
        if watch is not None:
            watch.hear(event, body)
            if not self.late:
                watch.deliver()

    def deliver(self) -> None:
        """Let the watches catch up."""
        for watch in self._watches.values():
            watch.deliver()

    def reconcile(self) -> bool:
        """Make one pass; False when an API error ended it, or a crash, after which a new operator starts."""
        faults = sum(fault.times for fault in self.kube._faults)
        try:
            self._runner.run(self.operator.reconcile(KEY))
        except KubeError:
            return False
        except Crashed:
            self.start()
            return False
        return faults == sum(fault.times for fault in self.kube._faults)

    # what there is

    @property
    def body(self) -> Body:
        found = self.kube.find(c.KIND, NAME, NAMESPACE)
        assert found is not None
        return found

    @property
    def status(self) -> Mapping[str, Any]:
        return self.body.get("status") or {}

    def condition(self, kind: str) -> Mapping[str, Any]:
        return next((item for item in self.status.get("conditions") or () if item["type"] == kind), {})

    def ready_pods(self) -> list[Body]:
        return [pod for pod in self._servers() if _is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def _servers(self) -> list[Body]:
        pods = self.kube.objects("Pod", NAMESPACE)
        return [pod for pod in pods if pod["metadata"]["labels"].get(c.LABEL_NAME) == c.NAME_SERVER]

    # the user

    def edit(self, **spec: Any) -> None:
        """Change the spec as `kubectl patch --type merge` would."""
        body = self.body
        for key, value in spec.items():
            old = body["spec"].get(key)
            body["spec"][key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        body["metadata"] = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
        before = self.kube.find(c.KIND, NAME, NAMESPACE)
        assert before is not None
        if before["spec"] != body["spec"]:
            place = (c.API_VERSION, c.KIND, NAMESPACE, NAME)
            self.kube._update(place, self.kube._objects[place], body)

    def annotate(self, value: str) -> None:
        body = self.body
        body["metadata"].setdefault("annotations", {})[c.ANNOTATION_RETRY] = value
        self.kube.put(body, NAMESPACE)

    # the controllers

    def controllers(self) -> bool:
        """Do one round; tell whether anything moved."""
        before = next(self.kube._versions)
        self.kube.finish_deletion()
        self._jobs()
        self._deployments()
        self._schedule()
        self._kubelet()
        return next(self.kube._versions) != before + 1

    def _jobs(self) -> None:
        for job in self.kube.objects("Job", NAMESPACE):
            if job.get("status"):
                continue
            name = job["metadata"]["name"]
            merges = job["metadata"]["labels"][c.LABEL_NAME] == c.NAME_MERGE
            how = self.merge if merges else "ok"
            if how == "never":
                self._pod(job, name, {"job-name": name}, {"running": {}}, "Running")
                continue
            code, message = _END[how]
            if how == "ok":
                key = job["metadata"]["labels"].get(c.LABEL_MERGE_KEY, "")
                message = json.dumps({"reason": "Merged", "artifactID": (key * 2)[:16]})
            ended = {"exitCode": code, "message": message, "finishedAt": format_time(self.now)}
            self._pod(job, name, {"job-name": name}, {"terminated": ended}, "Failed" if code else "Succeeded")
            done = {"type": "Failed" if code else "Complete", "status": "True"}
            self._status(job, {"conditions": [done | {"lastTransitionTime": format_time(self.now)}]})

    def _deployments(self) -> None:
        for deployment in self.kube.objects("Deployment", NAMESPACE):
            uid, wanted = deployment["metadata"]["uid"], deployment["spec"]["replicas"]
            mine = [pod for pod in self._servers() if pod["metadata"]["ownerReferences"][0]["uid"] == uid]
            staying = [pod for pod in mine if "deletionTimestamp" not in pod["metadata"]]
            for pod in sorted(staying, key=_is_ready)[: max(0, len(staying) - wanted)]:
                self.kube._delete(("v1", "Pod", NAMESPACE, pod["metadata"]["name"]))
            taken = {pod["metadata"]["name"] for pod in mine}
            free = (f"{deployment['metadata']['name']}-{number}" for number in range(200))
            names = (name for name in free if name not in taken)
            for _ in range(wanted - len(staying)):
                self._pod(deployment, next(names), {}, {}, "Pending")
            if deployment.get("status", {}).get("replicas", 0) != wanted:
                self._status(deployment, {"replicas": wanted})

    def _schedule(self) -> None:
        used = sum(_gpus(pod) for pod in self._servers() if _has_node(pod))
        for pod in self._servers():
            if _has_node(pod):
                continue
            if used + _gpus(pod) <= self.gpus:
                used += _gpus(pod)
                pod["spec"]["nodeName"] = "n1"
                pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
                self.kube.put(pod, NAMESPACE)
            elif not pod["status"]["conditions"]:
                waits = {"type": "PodScheduled", "status": "False", "message": "Insufficient GPUs"}
                pod["status"]["conditions"] = [{**waits, "lastTransitionTime": format_time(self.now)}]
                self.kube.put(pod, NAMESPACE)

    def _kubelet(self) -> None:
        for pod in self._servers():
            if not _has_node(pod) or "deletionTimestamp" in pod["metadata"] or _is_ready(pod):
                continue
            revision = pod["metadata"]["labels"][c.LABEL_REVISION]
            state: Body = {"running": {}}
            if revision in self.broken:
                state = {"terminated": {"exitCode": 65, "message": "no such model"}}
            ready = revision not in self.broken | self.silent
            before = json.dumps(pod["status"])
            pod["status"]["containerStatuses"] = [{"state": state}]
            conditions = [item for item in pod["status"]["conditions"] if item["type"] != "Ready"]
            if ready:
                conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": format_time(self.now)})
            pod["status"]["conditions"] = conditions
            if json.dumps(pod["status"]) != before:
                self.kube.put(pod, NAMESPACE)

    def _pod(self, owner: Body, name: str, labels: Mapping[str, str], state: Body, phase: str) -> None:
        template = owner["spec"]["template"]
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": True}
        metadata = {
            "name": name,
            "labels": {**template["metadata"]["labels"], **labels},
            "ownerReferences": [reference],
        }
        job = bool(labels)
        conditions = [{"type": "PodScheduled", "status": "True"}] if job else []
        status = {"phase": phase, "conditions": conditions, "containerStatuses": [{"state": state}]}
        spec = {"containers": template["spec"]["containers"], **({"nodeName": "n1"} if job else {})}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
        if (found := self.kube.find("Pod", name, NAMESPACE)) is None or found["status"] != status:
            self.kube.put(pod, NAMESPACE)

    def _status(self, body: Body, status: Body) -> None:
        self.kube.set_status(body["kind"], body["metadata"]["name"], status, NAMESPACE)

    def _claim(self, name: str) -> None:
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}}
        bound = {"phase": "Bound", "capacity": {"storage": "10Gi"}}
        self.kube.put({**claim, "spec": {"accessModes": ["ReadWriteOnce"]}, "status": bound}, NAMESPACE)

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


_END = {
    "ok": (0, ""),
    "terminal": (65, json.dumps({"reason": "NotADelta", "message": "no", "retryable": False})),
    "transient": (69, json.dumps({"reason": "SourceUnreachable", "message": "no", "retryable": True})),
}


def _is_ready(pod: Body) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"]["conditions"])


def _has_node(pod: Body) -> bool:
    return "nodeName" in pod["spec"]


def _gpus(pod: Body) -> int:
    return int(pod["spec"]["containers"][0]["resources"].get("limits", {}).get("nvidia.com/gpu", 0))
