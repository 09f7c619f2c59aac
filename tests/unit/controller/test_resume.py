"""The operator killed after any write, with the real plan: it resumes, and ends where it would have ended."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.memory_kube import Crashed, MemoryKube
from support.memory_snapshot import live_snapshot
from support.world import ARTIFACT, CONFIG, model_body
from vicuna_operator.api import constants as c
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.status import refused

NAMESPACE = "team"
KEY = (NAMESPACE, "demo")
CHILDREN = ("PersistentVolumeClaim", "Job", "Deployment", "Service")


class Cluster:
    """A MemoryKube with the least of controllers: a merge that succeeds, pods that become ready."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.kube = MemoryKube(now=lambda: self.time)
        self._put_claim("inputs", {})
        body = model_body(serving={"replicas": 2})
        self.kube.put({**body, "metadata": {"name": "demo"}}, NAMESPACE)
        self.crashes = 0

    def operator(self) -> Reconciler:
        return Reconciler(
            self.kube,
            live_snapshot(self.kube),
            Planning(plan=plan, claims_to_read=claims_to_read, refused=refused),
            CONFIG,
            now=lambda: self.time,
            clock=self.time.timestamp,
        )

    async def settle(self) -> Reconciler:
        """Run operator and controllers in turn until nothing is written any more; a crash starts a new operator."""
        operator = self.operator()
        for _ in range(60):
            before = len(self.kube.writes)
            self.time += timedelta(seconds=1)
            try:
                await operator.reconcile(KEY)
            except Crashed:
                self.crashes += 1
                operator = self.operator()
                continue
            moved = self._controllers()
            if len(self.kube.writes) == before and not moved:
                return operator
        raise AssertionError("does not settle")

    def shape(self) -> dict[str, Any]:
        """Everything that the operator made, without what differs between two runs."""
        specs = {
            f"{kind}/{body['metadata']['name']}": body["spec"]
            for kind in CHILDREN
            for body in self.kube.objects(kind, NAMESPACE)
        }
        status = self.model()["status"]
        conditions = {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}
        return {"specs": specs, "conditions": conditions, "active": status["active"]["revision"]}

    def model(self) -> dict[str, Any]:
        found = self.kube.find(c.KIND, "demo", NAMESPACE)
        assert found is not None
        return found

    def _put_claim(self, name: str, metadata: dict[str, Any]) -> None:
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, **metadata}}
        bound = {"phase": "Bound", "capacity": {"storage": "10Gi"}}
        self.kube.put({**claim, "spec": {"accessModes": ["ReadWriteOnce"]}, "status": bound}, NAMESPACE)

    def _controllers(self) -> bool:
        version = [body["metadata"]["resourceVersion"] for kind in CHILDREN for body in self.kube.objects(kind)]
        for job in self.kube.objects("Job"):
            moment = "2026-01-01T00:00:00Z"
            done = {"type": "Complete", "status": "True", "lastTransitionTime": moment}
            message = json.dumps({"reason": "Merged", "artifactID": ARTIFACT})
            ended = {"exitCode": 0, "message": message, "finishedAt": moment}
            self._pod(job, "0", {"job-name": job["metadata"]["name"]}, {"terminated": ended}, "Succeeded")
            self._status(job, {"conditions": [done], "succeeded": 1})
        for deployment in self.kube.objects("Deployment"):
            wanted = deployment["spec"]["replicas"]
            for number in range(wanted):
                self._pod(deployment, str(number), {}, {"running": {}}, "Running")
            self._status(deployment, {"replicas": wanted, "readyReplicas": wanted})
        return version != [body["metadata"]["resourceVersion"] for kind in CHILDREN for body in self.kube.objects(kind)]

    def _status(self, body: dict[str, Any], status: dict[str, Any]) -> None:
        self.kube.set_status(body["kind"], body["metadata"]["name"], status, NAMESPACE)

    def _pod(
        self,
        owner: dict[str, Any],
        number: str,
        labels: dict[str, str],
        state: dict[str, Any],
        phase: str,
    ) -> None:
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        metadata = {
            "name": f"{owner['metadata']['name']}-{number}",
            "labels": {**owner["spec"]["template"]["metadata"]["labels"], **labels},
            "ownerReferences": [reference],
        }
        ready = "True" if phase == "Running" else "False"
        status = {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}],
            "containerStatuses": [{"state": state}],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1"}}
        self.kube.put({**pod, "status": status}, NAMESPACE)


async def test_from_model_to_ready_and_then_silence() -> None:
    cluster = Cluster()
    operator = await cluster.settle()
    assert cluster.shape()["conditions"]["Ready"] == ("True", "Ready")
    written = len(cluster.kube.writes)
    await operator.reconcile(KEY)
    await cluster.operator().reconcile(KEY)  # a restart is no reason to write either
    assert len(cluster.kube.writes) == written


@pytest.mark.parametrize("after", range(1, 15))
async def test_killed_after_any_write_it_ends_where_it_would_have_ended(after: int) -> None:
    straight = Cluster()
    await straight.settle()
    cluster = Cluster()
    cluster.kube.crash_after = after
    await cluster.settle()
    if after <= len(straight.kube.writes):
        assert cluster.crashes == 1
    assert cluster.shape() == straight.shape()


async def test_killed_after_every_single_write() -> None:
    straight = Cluster()
    await straight.settle()
    cluster = Cluster()
    for _ in range(len(straight.kube.writes)):
        cluster.kube.crash_after = 1
        try:
            await cluster.operator().reconcile(KEY)
        except Crashed:
            cluster.crashes += 1
        cluster._controllers()
        cluster.time += timedelta(seconds=1)
    cluster.kube.crash_after = None
    await cluster.settle()
    assert cluster.crashes > 5
    assert cluster.shape() == straight.shape()
