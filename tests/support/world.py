"""A cluster in memory for tests of plan(): objects as dicts, and the controllers that move them, one step at a time."""

import copy
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from vicuna_operator.api.conditions import format_time
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.planning.actions import Apply, Create, Delete, Patch, Plan
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.meta import Meta
from vicuna_operator.planning.observed import BudgetView, ClaimView, EventView, Observed, PodView, ServiceView
from vicuna_operator.planning.plan import claims_to_read, plan

CONFIG = PlanConfig(server_image="registry.example/server:1")
ARTIFACT = "0123456789abcdef"

Key = tuple[str, str]


def model_body(name: str = "demo", **spec: Any) -> dict[str, Any]:
    """Return a small valid VicunaModel; keyword arguments replace parts of the spec."""
    weights = {"base": {"source": "pvc://inputs/base"}, "delta": {"source": "pvc://inputs/delta"}}
    return {
        "apiVersion": "vicuna.dev/v1alpha1",
        "kind": "VicunaModel",
        "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}", "generation": 1},
        "spec": {"weights": weights, "storage": {"size": "10Gi"}, **spec},
    }


class World:
    """One namespace with one VicunaModel. Time moves only by `tick`."""

    def __init__(self, body: dict[str, Any] | None = None, *, gpus: int = 100, config: PlanConfig = CONFIG) -> None:
        self.body = body or model_body()
        self.gpus = gpus
        self.config = config
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.objects: dict[Key, dict[str, Any]] = {}
        self.events: dict[str, list[EventView]] = {}
        self.writes = 0
        self.notes: list[tuple[str, str, str]] = []
        self.progress: dict[str, Any] | None = None
        self.budgets_offered = True
        self.neighbours: list[str] = []  # artifacts other models use on this claim
        self.broken_revisions: set[str] = set()  # their pods never become ready
        self.crashing: dict[str, dict[str, Any]] = {}  # revision → how its server ends, again and again
        self._uids = itertools.count(1)
        self.add_claim("inputs")

    # what a user does
    def edit(self, **spec: Any) -> None:
        """Change the spec as `kubectl patch --type merge` would, one level deep."""
        for key, value in spec.items():
            old = self.body["spec"].get(key)
            self.body["spec"][key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        self.body["metadata"]["generation"] += 1

    def annotate(self, key: str, value: str) -> None:
        """Set an annotation, which does not change the generation."""
        self.body["metadata"].setdefault("annotations", {})[key] = value

    def add_claim(self, name: str, **labels: str) -> None:
        """Make a bound claim that is not the operator's."""
        self.put(
            {
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "labels": labels},
                "spec": {"accessModes": ["ReadWriteOnce"]},
                "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}},
            }
        )

    # what the operator does
    def reconcile(self) -> Plan:
        """Plan once and carry the plan out."""
        made = plan(self.model, self.observe(), self.config, self.now)
        for action in made.actions:
            self._carry_out(action)
        if made.status is not None:
            status = json.loads(json.dumps(made.status))
            self.writes += status != self.body.get("status")
            self.body["status"] = status
        self.notes += [(note.type, note.reason, note.message) for note in made.notes]
        return made

    def wait(self, at_most: float = 3600) -> float:
        """Let as much time pass as the operator would without an event."""
        made = plan(self.model, self.observe(), self.config, self.now)
        seconds = at_most if made.requeue_after is None else min(made.requeue_after, at_most)
        self.tick(seconds)
        return seconds

    @property
    def model(self) -> Model:
        return parse_model(self.body)

    @property
    def status(self) -> dict[str, Any]:
        return self.body["status"]

    def condition(self, kind: str) -> dict[str, Any]:
        return next(item for item in self.status["conditions"] if item["type"] == kind)

    def observe(self) -> Observed:
        """See the world as the operator's indices do."""
        services, budgets = list(self.all("Service")), list(self.all("PodDisruptionBudget"))
        policies = list(self.all("NetworkPolicy"))
        return Observed(
            jobs=[JobView.of(item) for item in self.all("Job")],
            deployments=[DeploymentView.of(item) for item in self.all("Deployment")],
            pods=[PodView.of(item) for item in self.all("Pod")],
            service=ServiceView.of(services[0]) if services else None,
            budgets_offered=self.budgets_offered,
            budget=BudgetView.of(budgets[0]) if budgets else None,
            policy=Meta.of(policies[0]) if policies else None,
            claims={
                name: ClaimView.of(found) if (found := self.objects.get(("PersistentVolumeClaim", name))) else None
                for name in claims_to_read(self.model)
            },
            events=self.events,
            progress=self.progress,
            neighbours=self.neighbours,
        )

    def _carry_out(self, action: Create | Apply | Patch | Delete) -> None:
        self.writes += 1
        match action:
            case Create(body):
                key = (body["kind"], body["metadata"]["name"])
                assert key not in self.objects, f"{key} exists"
                self.put(copy.deepcopy(dict(body)))
            case Apply(body):
                target = self.objects[body["kind"], body["metadata"]["name"]]
                target["spec"] = copy.deepcopy(body["spec"])
                target["metadata"]["annotations"] = dict(body["metadata"]["annotations"])
            case Patch(ref, uid, change):
                target = self.objects[ref.kind, ref.name]
                assert target["metadata"]["uid"] == uid
                _merge(target, json.loads(json.dumps(change)))
            case Delete(ref, uid):
                target = self.objects.pop((ref.kind, ref.name))
                assert target["metadata"]["uid"] == uid
                for pod in [p for p in self.all("Pod") if p["owner"] == (ref.kind, ref.name)]:
                    self.remove(pod)

    # what the cluster does
    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def all(self, kind: str) -> Iterator[dict[str, Any]]:
        return (item for (found, _), item in list(self.objects.items()) if found == kind)

    def only(self, kind: str) -> dict[str, Any]:
        (item,) = self.all(kind)
        return item

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        metadata = body["metadata"]
        metadata.setdefault("uid", f"uid-{next(self._uids)}")
        metadata.setdefault("creationTimestamp", format_time(self.now))
        body.setdefault("status", {})
        self.objects[body["kind"], metadata["name"]] = body
        return body

    def remove(self, body: dict[str, Any]) -> None:
        self.objects.pop((body["kind"], body["metadata"]["name"]), None)

    def job_pod(self, **state: Any) -> dict[str, Any]:
        """Start the newest Job's pod; `state` is its container's."""
        merges = [item for item in self.all("Job") if "vicuna.dev/merge-attempt" in item["metadata"]["annotations"]]
        job = max(merges, key=lambda item: int(item["metadata"]["annotations"]["vicuna.dev/merge-attempt"]))
        name = f"{job['metadata']['name']}-abcde"
        labels = {**job["spec"]["template"]["metadata"]["labels"], "job-name": job["metadata"]["name"]}
        pod = {"kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": {"nodeName": "n1"}}
        pod["owner"] = ("Job", job["metadata"]["name"])
        pod["status"] = {
            "phase": "Running" if "running" in state else "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"state": state}],
        }
        return self.put(pod)

    def end_job(self, exit_code: int = 0, message: str | None = None, *, reason: str = "") -> None:
        """End the newest Job's pod and the Job with it."""
        if message is None:
            message = json.dumps({"reason": "Merged", "artifactID": ARTIFACT})
        ended = {"exitCode": exit_code, "message": message, "reason": reason, "finishedAt": format_time(self.now)}
        pod = self.job_pod(terminated=ended)
        pod["status"]["phase"] = "Failed" if exit_code else "Succeeded"
        job = self.objects[pod["owner"]]
        moment = format_time(self.now)
        kind = "Failed" if exit_code else "Complete"
        job["status"] = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": moment}]}

    def run_deployments(self) -> None:
        """Do one round of Deployment controller, scheduler and kubelet: pods made, placed, started, removed."""
        for pod in [p for p in self.all("Pod") if "deletionTimestamp" in p["metadata"]]:
            self.remove(pod)
        for deployment in self.all("Deployment"):
            key = ("Deployment", deployment["metadata"]["name"])
            pods = [p for p in self.all("Pod") if p["owner"] == key]
            staying = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
            for pod in sorted(staying, key=_is_ready)[: max(0, len(staying) - deployment["spec"]["replicas"])]:
                pod["metadata"]["deletionTimestamp"] = format_time(self.now)
                self._set_ready(pod, False)
            for _ in range(deployment["spec"]["replicas"] - len(staying)):
                self._make_pod(deployment, key)
            deployment["status"] = {"replicas": deployment["spec"]["replicas"]}
        self._schedule()

    def _make_pod(self, deployment: dict[str, Any], key: Key) -> None:
        template = copy.deepcopy(deployment["spec"]["template"])
        pod = {
            "kind": "Pod",
            "metadata": {"name": f"{key[1]}-{next(self._uids)}", "labels": template["metadata"]["labels"]},
            "spec": template["spec"],
            "owner": key,
            "status": {"phase": "Pending", "conditions": []},
        }
        self.put(pod)

    def _schedule(self) -> None:
        for pod in list(self.all("Pod")):
            if pod["owner"][0] != "Deployment" or "nodeName" in pod["spec"]:
                continue
            if self.gpus_in_use() + _gpus(pod) <= self.gpus:
                pod["spec"]["nodeName"] = "n1"
                pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
            elif not pod["status"]["conditions"]:
                condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient GPUs"}
                pod["status"]["conditions"] = [{**condition, "lastTransitionTime": format_time(self.now)}]

    def gpus_in_use(self) -> int:
        return sum(_gpus(pod) for pod in self.server_pods() if "nodeName" in pod["spec"])

    def server_pods(self) -> list[dict[str, Any]]:
        return [pod for pod in self.all("Pod") if pod["owner"][0] == "Deployment"]

    def make_ready(self) -> None:
        """Let every pod that has a node load its model, except those of broken revisions."""
        for pod in self.server_pods():
            if "nodeName" not in pod["spec"] or "deletionTimestamp" in pod["metadata"]:
                continue
            revision = pod["metadata"]["labels"]["vicuna.dev/revision"]
            if revision in self.crashing:
                self._crash(pod, self.crashing[revision])
            elif revision not in self.broken_revisions:
                pod["status"]["containerStatuses"] = [{"state": {"running": {}}}]
                self._set_ready(pod, True)
            else:
                pod["status"]["containerStatuses"] = [{"state": {"running": {}}}]
                self._set_ready(pod, False)

    def _crash(self, pod: dict[str, Any], ended: dict[str, Any]) -> None:
        (before,) = pod["status"].get("containerStatuses") or [{}]
        restarts = before.get("restartCount", -1) + 1
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        state = {"terminated": ended} if restarts == 0 else waiting
        last = {"terminated": ended} if restarts else {}
        pod["status"]["containerStatuses"] = [{"state": state, "lastState": last, "restartCount": restarts}]
        self._set_ready(pod, False)

    def _set_ready(self, pod: dict[str, Any], ready: bool) -> None:
        if _is_ready(pod) == ready and any(c["type"] == "Ready" for c in pod["status"]["conditions"]):
            return
        others = [c for c in pod["status"]["conditions"] if c["type"] != "Ready"]
        change = {"type": "Ready", "status": str(ready), "lastTransitionTime": format_time(self.now)}
        pod["status"]["conditions"] = [*others, change]

    def ready_pods(self) -> list[dict[str, Any]]:
        return [pod for pod in self.all("Pod") if _is_ready(pod)]

    def settle(self, *, rounds: int = 60) -> None:
        """Let everything run until a reconcile writes nothing and the cluster does not move."""
        for _ in range(rounds):
            before = (repr(self.objects), self.writes)
            self.tick(1)
            self.reconcile()
            self.run_deployments()
            self.make_ready()
            if (repr(self.objects), self.writes) == before:
                return
        raise AssertionError("the world does not settle")

    def deploy(self) -> None:
        """Bring a fresh model to Ready."""
        self.reconcile()
        self.end_job()
        self.settle()


def _gpus(pod: dict[str, Any]) -> int:
    return int(pod["spec"]["containers"][0]["resources"].get("limits", {}).get("nvidia.com/gpu", 0))


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])


def _merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = value
