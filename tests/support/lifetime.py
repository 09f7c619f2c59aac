"""An operator that dies and comes back, on a cluster in memory: the real Reconciler and watches.

Jobs end by themselves; watches deliver at once or late; users, API errors and crashes come from the test.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from support.cluster import NAMESPACE, Cluster, model_body
from support.memory_kube import Body, Crashed
from support.memory_snapshot import WATCHED
from support.world import CONFIG
from vicuna_contract import names as c
from vicuna_operator.controller.demands import DemandObject
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.controller.snapshot import Key, Snapshot
from vicuna_operator.errors import KubeError
from vicuna_operator.kube.watch import Page
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.stopped_status import refused


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


class Lifetime(Cluster):
    """One model from its creation on."""

    def __init__(self, runner: asyncio.Runner) -> None:
        storage = {"size": "10Gi", "accessMode": "ReadWriteMany"}
        super().__init__(model_body(storage=storage, serving={"replicas": 2}), gpus=3)
        self._runner = runner
        self.merge = "ok"  # how merges end: ok, terminal, transient, never
        self.late = False  # watches deliver only when told
        self.requests = 0  # that a gateway has for the model
        self.kube.listen(self._hear)
        self.start()

    # the operator

    def start(self) -> None:
        """Start a new operator: its watches list everything, its memory is empty."""
        watches = {name: Watch(key, view) for name, (_, key, view) in WATCHED.items()}
        self._watches = {kind: watches[name] for name, (kind, _, _) in WATCHED.items()}
        for kind, watch in self._watches.items():
            for body in self.kube.objects(kind):
                watch.hear("ADDED", body)
        self.deliver()
        self.operator = Reconciler(
            self.kube,
            Snapshot(**watches),
            Planning(plan=plan, claims_to_read=claims_to_read, refused=refused),
            CONFIG,
            now=lambda: self.now,
            clock=self.now.timestamp,
        )
        self.operator.demands.set_reached(True)
        self.ask(self.requests)

    def ask(self, requests: int) -> None:
        """Let a gateway state so many requests."""
        self.requests = requests
        stated = DemandObject(("gateways", "gw"), f"{requests} {self.now}", {(NAMESPACE, self.name): (requests, 0)})
        self.operator.demands.apply_page(Page("1", [stated]))

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
        faults = self.kube.faults_left
        try:
            self._runner.get_loop().run_until_complete(self.operator.reconcile((NAMESPACE, self.name)))
        except KubeError:
            return False
        except Crashed:
            self.start()
            return False
        return faults == self.kube.faults_left

    # the controllers

    def controllers(self) -> bool:
        """Do one round; tell whether anything moved."""
        before = self.kube.version
        for job in self.all("Job"):
            if not job.get("status"):
                self._work(job)
        self.run_deployments()
        self.make_ready()
        return self.kube.version != before

    def _work(self, job: Body) -> None:
        labels = job["metadata"]["labels"]
        how = self.merge if labels[c.LABEL_NAME] == c.NAME_MERGE else "ok"
        if how == "never":
            self.run_job(job, running={})
            return
        code, message = _END[how]
        if how == "ok":
            message = json.dumps({"reason": "Merged", "artifactID": (labels.get(c.LABEL_MERGE_KEY, "") * 2)[:16]})
        self.finish_job(job, code, message)


_END = {
    "ok": (0, ""),
    "terminal": (65, json.dumps({"reason": "NotADelta", "message": "no", "retryable": False})),
    "transient": (69, json.dumps({"reason": "SourceUnreachable", "message": "no", "retryable": True})),
}
