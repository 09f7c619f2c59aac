"""A hundred models at once on a real API server: how soon all are Ready, and what the operator costs meanwhile.

Needs a cluster in KUBECONFIG, and rights on nodes. Runs an operator of its own as a process, for a namespace of its
own. The pods go to a Node object without a kubelet, on which a thread here says what a kubelet would: merges are
done, servers are ready. So what is measured is control, not merging or loading.

    python bench/control.py --models 100 --idle-seconds 60

Prints times from the answer to a request until a watch shows what the operator made of it, in the burst and one at a
time; the operator's memory; and how many objects are written while nobody touches anything. Absolute times: one plain
create on the same API server is printed beside them.

Each figure stands beside its bounds, and one outside them ends the command with 1. `control.json` holds the runs that
the bounds are derived from (`bounds` below) and the machine they were made on; `--record` adds this run to them.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import urllib3
import yaml
from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path(__file__).with_suffix(".json")
GROUP, VERSION, PLURAL = "vicuna.dev", "v1alpha1", "vicunamodels"
LABEL = {"vicuna-bench": "yes"}
TOLERATION = {"key": "vicuna-bench", "operator": "Exists"}
Body = dict[str, Any]


def model(name: str) -> Body:
    place = {"nodeSelector": LABEL, "tolerations": [TOLERATION]}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "VicunaModel",
        "metadata": {"name": name},
        "spec": {
            "weights": {"base": {"source": f"pvc://weights/{name}"}},
            "merge": place,
            "storage": {"claimName": "weights"},
            "serving": {"numGpus": 1, "maxStreamSeconds": 1, **place},
        },
    }


class Watch(threading.Thread):
    """Hears of a kind's objects from their first event on, and lets others wait for one."""

    def __init__(self, lister: Callable[..., Any], *args: str, act: Callable[[Body], None] | None = None) -> None:
        super().__init__(daemon=True)
        self.lister, self.args, self.act = lister, args, act
        self.seen: dict[str, Body] = {}
        self.history: list[tuple[float, Body]] = []
        self.more = threading.Condition()

    def run(self) -> None:
        while True:
            with contextlib.suppress(client.ApiException, urllib3.exceptions.HTTPError):
                # plain JSON: the client's classes would cost more than all that is measured here
                for line in self.lister(*self.args, watch=True, _preload_content=False):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    body = event["object"]
                    if self.act is not None:
                        self.act(body)
                    with self.more:
                        self.seen[body["metadata"]["name"]] = body
                        self.history.append((time.perf_counter(), body))
                        self.more.notify_all()

    def first(self, test: Callable[[Body], bool], seconds: float) -> float:
        """Wait until an object passes the test; return when it first did."""

        def passed() -> float | None:
            return next((at for at, body in self.history if test(body)), None)

        with self.more:
            at = self.more.wait_for(passed, seconds)
        if at is None:
            raise SystemExit(f"not seen within {seconds:.0f} s; is something wrong with the operator?")
        return at


class Kubelet:
    """Says on the ghost node what a kubelet would."""

    def __init__(self, namespace: str, node: str) -> None:
        self.core, self.coordination = client.CoreV1Api(), client.CoordinationV1Api()
        self.namespace, self.node = namespace, node
        self.done: set[str] = set()

    def register(self) -> None:
        room = {"cpu": "1000", "memory": "4Ti", "pods": "1000", "nvidia.com/gpu": "1000"}
        taint = {"key": "vicuna-bench", "value": "yes", "effect": "NoSchedule"}
        labels = {**LABEL, "kubernetes.io/hostname": self.node}
        self.core.create_node({"metadata": {"name": self.node, "labels": labels}, "spec": {"taints": [taint]}})
        self.core.patch_node_status(self.node, {"status": {"capacity": room, "allocatable": room}})
        threading.Thread(target=self.beat, daemon=True).start()

    def beat(self) -> None:
        while True:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            ready = {"type": "Ready", "status": "True", "reason": "Bench", "lastHeartbeatTime": now}
            with contextlib.suppress(client.ApiException):
                self.core.patch_node_status(self.node, {"status": {"conditions": [ready]}})
            time.sleep(8)

    def act(self, pod: Body) -> None:
        metadata, name = pod["metadata"], pod["metadata"]["name"]
        if pod["spec"].get("nodeName") != self.node:
            return
        if "deletionTimestamp" in metadata:
            with contextlib.suppress(client.ApiException):
                self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)
        elif metadata["uid"] not in self.done:
            self.done.add(metadata["uid"])
            merges = metadata["labels"]["app.kubernetes.io/name"] == "vicuna-merge"
            status = merged(pod) if merges else ready(pod)
            with contextlib.suppress(client.ApiException):
                self.core.patch_namespaced_pod_status(name, self.namespace, {"status": status})


def container(pod: Body, state: Body, ready: bool) -> Body:
    (only,) = pod["spec"]["containers"]
    known = {"name": only["name"], "image": only["image"], "imageID": "none", "restartCount": 0}
    return {**known, "ready": ready, "state": state}


def merged(pod: Body) -> Body:
    key = pod["metadata"]["labels"]["vicuna.dev/merge-key"]
    message = json.dumps({"reason": "Merged", "artifactID": (key * 2)[:16]})
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ended = {"exitCode": 0, "message": message, "startedAt": now, "finishedAt": now}
    return {"phase": "Succeeded", "containerStatuses": [container(pod, {"terminated": ended}, False)]}


def ready(pod: Body) -> Body:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    status = container(pod, {"running": {"startedAt": now}}, True)
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [status], "podIP": "127.0.0.1"}


@contextlib.contextmanager
def operator(namespace: str) -> Iterator[psutil.Process]:
    """Run an operator for one namespace."""
    words = ["run", "--watch-namespaces", namespace, "--server-image", "bench.invalid/server:1", "--health-port", "0"]
    words += ["--lease-name", namespace, "--log-level", "warning"]
    env = {**os.environ, "POD_NAMESPACE": namespace}
    command = [sys.executable, "-m", "vicuna_operator", *words]
    with subprocess.Popen(command, env=env) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def surroundings(namespace: str) -> Iterator[None]:
    """Make a namespace, a volume nobody reads, and the CRD where it is missing; take away what was made."""
    core, extensions = client.CoreV1Api(), client.ApiextensionsV1Api()
    crd = None
    with contextlib.suppress(client.ApiException):  # it is there already
        body = yaml.safe_load((ROOT / "crds" / "vicunamodels.yaml").read_text())
        crd = extensions.create_custom_resource_definition(body)
        time.sleep(3)
    core.create_namespace({"metadata": {"name": namespace}})
    size = {"storage": "1Ti"}
    volume = {"capacity": size, "accessModes": ["ReadWriteMany"], "hostPath": {"path": "/nowhere"}}
    core.create_persistent_volume({"metadata": {"name": namespace}, "spec": {**volume, "storageClassName": ""}})
    claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": namespace}
    body = {"metadata": {"name": "weights"}, "spec": {**claim, "resources": {"requests": size}}}
    core.create_namespaced_persistent_volume_claim(namespace, body)
    try:
        yield
    finally:
        core.delete_namespace(namespace)
        core.delete_persistent_volume(namespace)
        if crd is not None:
            extensions.delete_custom_resource_definition(crd.metadata.name)


def is_ready(body: Body) -> bool:
    conditions = body.get("status", {}).get("conditions", [])
    current = body["status"]["observedGeneration"] == body["metadata"]["generation"] if conditions else False
    return current and any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def is_named(body: Body, name: str) -> bool:
    return bool(body["metadata"]["name"] == name)


def bounds(name: str, values: list[float]) -> tuple[float, float]:
    """Return the least and the most a figure may be, from those of the recorded runs.

    Times may be half the shortest to twice the longest: runs of one commit differ by that much. Memory varies by less
    than a tenth: a quarter is a change. A write while idle has a reason or is a loop: as recorded. The least tells of a
    benchmark that no longer measures what it did; tenths of a second of processor time are not told from none.
    """
    low, high = min(values), max(values)
    slack = 2.0 if name.endswith(("_ms", "_s")) else 1.25 if name.endswith("_mib") else 1.0
    return (0.0, max(0.5, high * slack)) if name.startswith("idle_cpu") else (low / slack, high * slack)


class Figures:
    """What one run measured, told line by line; the names end in their unit."""

    def __init__(self, number: int) -> None:
        self.conditions = {"models": number}
        self.values: dict[str, float] = {}
        self.outside: list[str] = []
        self.runs: list[dict[str, float]] = json.loads(RUNS.read_text())["runs"] if RUNS.exists() else []
        self.runs = [run for run in self.runs if run["models"] == number]

    def tell(self, what: str, **values: float) -> None:
        print(what)
        for name, value in values.items():
            self.values[name] = round(value, 1)
            known = [run[name] for run in self.runs if name in run]
            low, high = bounds(name, known) if known else (0.0, float("inf"))
            beside = f"{low:.1f} to {high:.1f}" if known else "no run is recorded with so many models"
            wrong = not low <= self.values[name] <= high
            self.outside += [name] * wrong
            print(f"  {name:28} {value:8.1f}   ({beside}){'  <- outside' * wrong}")

    def times(self, what: str, name: str, seconds: list[float]) -> None:
        ordered = sorted(1000 * value for value in seconds)
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        self.tell(what, **{f"{name}_median_ms": statistics.median(ordered), f"{name}_p95_ms": p95})

    def record(self) -> None:
        """Add this run to the file."""
        content = json.loads(RUNS.read_text()) if RUNS.exists() else {"runs": []}
        content["runs"].append({**self.conditions, **self.values})
        RUNS.write_text(json.dumps(content, indent=2) + "\n")


def versions(*watches: Watch) -> dict[str, str]:
    return {
        f"{number}/{name}": body["metadata"]["resourceVersion"]
        for number, each in enumerate(watches)
        for name, body in list(each.seen.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--idle-seconds", type=float, default=60)
    parser.add_argument("--record", action="store_true", help="add this run to those the bounds are derived from")
    args = parser.parse_args()
    config.load_config()
    figures = Figures(args.models)
    namespace = f"vicuna-bench-{uuid.uuid4().hex[:6]}"
    kubelet = Kubelet(namespace, namespace)
    try:
        with surroundings(namespace), operator(namespace) as process:
            kubelet.register()
            measure(namespace, kubelet, process, figures, args.idle_seconds)
    finally:
        with contextlib.suppress(client.ApiException):
            client.CoreV1Api().delete_node(namespace)
    if args.record:
        figures.record()
    elif figures.outside:
        raise SystemExit(f"outside the bounds: {', '.join(figures.outside)}")


def measure(namespace: str, kubelet: Kubelet, process: psutil.Process, figures: Figures, idle: float) -> None:
    number = figures.conditions["models"]
    core, batch, apps, custom = client.CoreV1Api(), client.BatchV1Api(), client.AppsV1Api(), client.CustomObjectsApi()
    where = (GROUP, VERSION, namespace, PLURAL)
    models, jobs = Watch(custom.list_namespaced_custom_object, *where), Watch(batch.list_namespaced_job, namespace)
    deployments = Watch(apps.list_namespaced_deployment, namespace)
    pods = Watch(core.list_namespaced_pod, namespace, act=kubelet.act)
    for each in (models, jobs, deployments, pods):
        each.start()
    names = [f"model-{index}" for index in range(number)]
    warm_up(custom, where, models)

    def create(name: str) -> tuple[float, float]:
        before = time.perf_counter()
        custom.create_namespaced_custom_object(*where, model(name))
        return before, time.perf_counter()

    def followed(name: str, answered: float) -> float:
        seen = jobs.first(lambda job: job["metadata"]["labels"].get("vicuna.dev/model") == name, 120)
        return max(0.0, seen - answered)

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(create, names))
    delays = [followed(name, answered) for name, (_, answered) in zip(names, answers, strict=True)]
    ends = [models.first(lambda body, name=name: is_named(body, name) and is_ready(body), 600) for name in names]
    figures.times("one plain create, in the burst", "create", [answered - before for before, answered in answers])
    figures.times("a model to its Job, in the burst", "burst", delays)
    figures.tell(f"all {number} models Ready, from the first create on", ready_s=max(ends) - started)
    figures.tell("memory of the operator then", burst_mib=process.memory_info().rss / 2**20)

    edits = []
    for name in names[:20]:
        custom.patch_namespaced_custom_object(*where, name, {"spec": {"serving": {"replicas": 2}}})
        answered = time.perf_counter()

        def scaled(body: Body, name: str = name) -> bool:
            return bool(body["metadata"]["labels"].get("vicuna.dev/model") == name and body["spec"]["replicas"] == 2)

        edits.append(max(0.0, deployments.first(scaled, 30) - answered))
    figures.times("an edit to its Deployment, one at a time", "edit", edits)

    idle_writes(process, (models, jobs, deployments), figures, idle)


def idle_writes(process: psutil.Process, watches: tuple[Watch, ...], figures: Figures, idle: float) -> None:
    """Wait until all is done and nothing is written any more, then count what is written, and the processor's time."""
    quiet, settle = versions(*watches), time.monotonic() + 60 + len(watches[0].seen)
    time.sleep(5)
    while (now := versions(*watches)) != quiet or not all(map(is_followed, watches[-1].seen.values())):
        if time.monotonic() > settle:
            raise SystemExit("objects are written again and again; `kubectl get --watch` shows which")
        quiet = now
        time.sleep(5)
    cpu = process.cpu_times()
    time.sleep(idle)
    after, busy = versions(*watches), process.cpu_times()
    changed = [name for name in after if after[name] != quiet.get(name)]
    spent = busy.user + busy.system - cpu.user - cpu.system
    figures.tell(f"of {len(after)} objects, written in {idle:.0f} s idle: {changed}", idle_writes=len(changed))
    figures.tell("processor time of the operator meanwhile, of a minute", idle_cpu_s=60 * spent / idle)
    figures.tell("memory of the operator at the end", idle_mib=process.memory_info().rss / 2**20)


def is_followed(deployment: Body) -> bool:
    """Tell whether the controller manager has done what a Deployment asks: it pauses for longer than others write."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    known = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return known and status.get("availableReplicas", 0) == wanted


def warm_up(custom: Any, where: tuple[str, ...], models: Watch) -> None:
    """Wait until the operator watches: a model whose claim is missing is answered."""
    body = model("warm-up")
    body["spec"]["storage"] = {"claimName": "absent"}
    custom.create_namespaced_custom_object(*where, body)
    models.first(lambda item: bool(item.get("status", {}).get("conditions")), 60)
    custom.delete_namespaced_custom_object(*where, "warm-up")


if __name__ == "__main__":
    main()
