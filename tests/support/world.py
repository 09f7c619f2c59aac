"""A cluster for tests of plan(): each pass sees everything, and what it plans is carried out at once."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any

from support.cluster import NAMESPACE, Cluster, model_body
from support.memory_kube import Body, View
from vicuna_contract import names as c
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.controller.status import status_patch
from vicuna_operator.errors import InvalidError
from vicuna_operator.kube.port import ref_of
from vicuna_operator.planning.actions import Action, Apply, Create, Delete, DryRun, Patch, Plan
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, DryRunResult, EventView, ManagedObjectView, Observed
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.pods import PodView

CONFIG = PlanConfig(server_image="registry.example/server:1")
ARTIFACT = "0123456789abcdef"
MERGED = f'{{"reason": "Merged", "artifactID": "{ARTIFACT}"}}'


class World(Cluster):
    """A cluster in which a test calls plan() and moves the controllers step by step."""

    def __init__(self, body: Body | None = None, *, gpus: int = 100, config: PlanConfig = CONFIG) -> None:
        super().__init__(body or model_body(), gpus=gpus)
        self.config = config
        self.events: dict[str, list[EventView]] = {}
        self.new_events: list[tuple[str, str, str]] = []
        self.noted_at: list[datetime] = []
        self.progress: dict[str, Any] | None = None
        self.budgets_offered = True
        self.dry_run: DryRunResult | None = None
        self.neighbour_pods: list[PodView] = []
        self.neighbours: list[str] = []  # artifacts other models use on this claim

    # what the operator does

    def reconcile(self) -> Plan:
        """Plan once and carry the plan out."""
        made = self._plan()
        for action in made.actions:
            _at_once(self._carry_out(action))
        change = None if made.status is None else status_patch(self.status, made.status)
        if change is not None:
            _at_once(self.kube.patch(ref_of(self.body), NAMESPACE, {"status": change}, subresource="status"))
        self.new_events += [(event.type, event.reason, event.message) for event in made.new_events]
        self.noted_at += [self.now for _ in made.new_events]
        return made

    def wait(self, at_most: float = 3600) -> float:
        """Let as much time pass as the operator would without an event."""
        after = self._plan().requeue_after
        seconds = at_most if after is None else min(after, at_most)
        self.tick(seconds)
        return seconds

    @property
    def model(self) -> Model:
        (found,) = (model for model in self._views(c.KIND, parse_model) if model.name == self.name)
        return found

    @property
    def writes(self) -> int:
        return len(self.kube.writes)

    def observe(self, model: Model) -> Observed:
        """See the world as the operator's indices do."""
        service, budget, policy = map(self._managed, ("Service", "PodDisruptionBudget", "NetworkPolicy"))
        claims = {view.meta.name: view for view in self._views("PersistentVolumeClaim", ClaimView.of)}
        return Observed(
            jobs=self._views("Job", JobView.of),
            deployments=self._views("Deployment", DeploymentView.of),
            pods=self._views("Pod", PodView.of),
            service=service,
            budgets_offered=self.budgets_offered,
            budget=budget,
            policy=policy,
            claims={name: claims.get(name) for name in claims_to_read(model)},
            events=self.events,
            progress=self.progress,
            neighbours=self.neighbours,
            neighbour_pods=self.neighbour_pods,
            dry_run=self.dry_run,
        )

    def _views(self, kind: str, read: Callable[[Body], View]) -> list[View]:
        return self.kube.views(kind, NAMESPACE, read)

    def _managed(self, kind: str) -> ManagedObjectView | None:
        return next(iter(self._views(kind, ManagedObjectView.of)), None)

    def _plan(self) -> Plan:
        return self.plan_for(self.model)

    def plan_for(self, model: Model) -> Plan:
        """Plan for a model, and do nothing but try out what the plan wants tried."""
        made = plan(model, self.observe(model), self.config, self.now)
        if made.dry_run is not None:
            answer = self._dry_run(made.dry_run)
            self.dry_run = replace(answer, is_new=False)
            made = plan(model, replace(self.observe(model), dry_run=answer), self.config, self.now)
        return made

    def _dry_run(self, dry_run: DryRun) -> DryRunResult:
        refused, warnings = [], []
        for body in dry_run.bodies:
            try:
                warnings += _at_once(self.kube.dry_run(body, NAMESPACE))
            except InvalidError as error:
                refused.append(str(error))
        return DryRunResult(dry_run.key, refused, warnings, is_new=True)

    async def _carry_out(self, action: Action) -> None:
        """Do as the executor, which forgives races: here there are none, and whatever the API refuses is a fault."""
        match action:
            case Create(body):
                await self.kube.create(body, NAMESPACE)
            case Apply(body):
                await self.kube.apply(body, NAMESPACE)
            case Patch(ref, uid, change):
                metadata = {**change.get("metadata", {}), "uid": uid}
                await self.kube.patch(ref, NAMESPACE, {**change, "metadata": metadata})
            case Delete(ref, uid):
                await self.kube.delete(ref, NAMESPACE, uid=uid)

    # what the cluster does

    def job_pod(self, **state: Any) -> Body:
        """Start the pod of the newest merge; `state` is its container's."""
        return self.run_job(self._newest_merge(), **state)

    def end_job(self, exit_code: int = 0, message: str = MERGED, *, reason: str = "") -> None:
        """End the pod of the newest merge, and its Job."""
        self.finish_job(self._newest_merge(), exit_code, message, reason)

    def _newest_merge(self) -> Body:
        merges = [job for job in self.all("Job") if c.ANNOTATION_ATTEMPT in job["metadata"]["annotations"]]
        return max(merges, key=lambda job: int(job["metadata"]["annotations"][c.ANNOTATION_ATTEMPT]))

    def settle(self, *, rounds: int = 60) -> None:
        """Let everything run until a reconcile writes nothing and the cluster does not move."""
        for _ in range(rounds):
            before = (self.kube.version, self.writes)
            self.tick(1)
            self.reconcile()
            self.run_deployments()
            self.make_ready()
            if (self.kube.version, self.writes) == before:
                return
        raise AssertionError("the world does not settle")

    def deploy(self) -> None:
        """Bring a fresh model to Ready."""
        self.reconcile()
        self.end_job()
        self.settle()


def _at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """Make a call to the API server in memory, which never waits."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a call waits")
