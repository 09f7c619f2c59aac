"""Collects what planning sees of one model: from the indices, and by a few reads of the API."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vicuna_contract import names as c
from vicuna_contract.events import last_progress
from vicuna_operator.api.model import Model
from vicuna_operator.controller.claims import Claims
from vicuna_operator.controller.demands import Demands
from vicuna_operator.controller.executor import is_ours
from vicuna_operator.controller.last_words import with_last_words
from vicuna_operator.controller.model_state import ModelState
from vicuna_operator.controller.settings import WATCHED_CHILDREN
from vicuna_operator.controller.snapshot import Key, Snapshot
from vicuna_operator.errors import ForbiddenError, KubeError, NotFoundError
from vicuna_operator.kube.port import Kube
from vicuna_operator.planning.actions import Ref
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.lenient import table, text
from vicuna_operator.planning.observed import EventView, ManagedObjectView, Observed
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.quarantine import find_quarantined
from vicuna_operator.resources.common import claim_name

__all__ = ["Observer"]

logger = logging.getLogger(__name__)

AUDIT_SECONDS = 280.0
_PROGRESS_SECONDS = 5.0
_EVENTS_SECONDS = 2.0
_AUTOSCALERS_SECONDS = 30.0
_LOG_LINES = 20
_LOG_BYTES = 16 * 1024
_BUDGET = ("policy/v1", "PodDisruptionBudget")
_POLICY = ("networking.k8s.io/v1", "NetworkPolicy")


class Observer:
    """Reads for planning."""

    def __init__(
        self,
        kube: Kube,
        snapshot: Snapshot,
        claims: Claims,
        demands: Demands,
        *,
        merge_progress: bool,
        policies: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._snapshot = snapshot
        self._claims = claims
        self._demands = demands
        self._merge_progress = merge_progress
        self._policies = policies
        self._clock = clock

    async def observe(self, model: Model, state: ModelState) -> Observed:
        """Look at everything around a model."""
        children = self._snapshot.children(
            (model.namespace, model.name), lambda view: view.meta.uid not in state.ghosts
        )
        await self._forget_solved_conflicts(model, state)
        budgets_offered = await self._kube.offers("policy/v1")
        several = model.spec is not None and model.spec.serving.most_replicas > 1
        budget = await self._managed_object(model, state, _BUDGET, wanted=several) if budgets_offered else None
        policy = await self._managed_object(model, state, _POLICY, wanted=self._policies)
        return Observed(
            jobs=children.jobs,
            deployments=children.deployments,
            pods=await self._told(model, children.pods, state),
            service=next((item for item in children.services if item.meta.name == model.name), None),
            budgets_offered=budgets_offered,
            budget=ManagedObjectView.of(budget) if budget else None,
            policy=ManagedObjectView.of(policy) if policy else None,
            claims=await self._claims.read(model),
            events=await self._events(model, state),
            progress=await self._progress(model, state),
            neighbours=self._neighbours(model),
            neighbour_pods=self._neighbour_pods(model, children.jobs),
            conflicts=tuple(sorted(ref.name for ref in state.conflicts)),
            dry_run=state.dry_run,
            relabelled=tuple(sorted(state.relabelled.values())),
            demand=await self._demands.view(model),
            autoscalers=await self._autoscalers(model, state),
        )

    def audit_due(self, state: ModelState) -> bool:
        """Tell whether the indices have gone unchecked for long."""
        return self._clock() - state.audited >= AUDIT_SECONDS

    async def audit(self, key: Key, state: ModelState) -> None:
        """Compare the indices with the API: a watch that is restarted never reports what was deleted meanwhile."""
        namespace, name = key
        found = await self._kube.get(Ref(c.API_VERSION, c.KIND, name), namespace)
        state.gone = found is None or found["metadata"].get("uid") != state.uid
        selector = f"{c.LABEL_MODEL}={name}"
        lists = await asyncio.gather(
            *(
                self._kube.list(api_version, kind, namespace, label_selector=selector)
                for *_, api_version, kind in WATCHED_CHILDREN
            )
        )
        alive = {str(item["metadata"].get("uid")) for items in lists for item in items}
        indexed = {view.meta.uid for view in self._snapshot.children(key, lambda _: True).all()}
        state.ghosts = indexed - alive
        state.audited = self._clock()

    async def _told(self, model: Model, pods: Sequence[PodView], state: ModelState) -> Sequence[PodView]:
        """Return the pods with what vLLM printed before it ended, where logs may be read."""
        return await with_last_words(self._kube, model.namespace, pods, state) if self._merge_progress else pods

    def _neighbours(self, model: Model) -> Sequence[str]:
        if model.spec is None or model.spec.storage.claim_name is not None:
            return ()
        return sorted(self._snapshot.artifacts_on(claim_name(model), besides=(model.namespace, model.name)))

    def _neighbour_pods(self, model: Model, jobs: Sequence[JobView]) -> Sequence[PodView]:
        if model.spec is None or model.spec.storage.claim_name is not None:
            return ()
        artifacts = {item.artifact_id for item in find_quarantined(jobs)}
        return self._snapshot.servers_of(artifacts, claim_name(model), besides=(model.namespace, model.name))

    async def _managed_object(
        self, model: Model, state: ModelState, what: tuple[str, str], *, wanted: bool
    ) -> Mapping[str, Any] | None:
        """Read a managed object by its name. A watch of it would fail on clusters that do not have its API.

        An object that is not wanted is read once, since it may be left from before. A new model cannot have any: there,
        the read is put off until the merge has been started.
        """
        api_version, kind = what
        if wanted:
            state.absent.discard(kind)  # it is about to be created
        elif kind in state.absent or model.status.get("observedGeneration", -1) == -1:
            return None
        found = await self._kube.get(Ref(api_version, kind, model.name), model.namespace)
        if found is None and not wanted:
            state.absent.add(kind)
        return found

    async def _autoscalers(self, model: Model, state: ModelState) -> Sequence[str]:
        """Name the HorizontalPodAutoscalers that scale a model with autoscaling of its own, where they may be read.

        A watch of all would hear of each one's status four times a minute. One that scales this model changes its spec,
        and so causes the pass that finds it.
        """
        if model.spec is None or model.spec.serving.autoscaling is None:
            return ()
        if self._clock() - state.autoscalers_read >= _AUTOSCALERS_SECONDS:
            state.autoscalers_read = self._clock()
            try:
                bodies = await self._kube.list("autoscaling/v1", "HorizontalPodAutoscaler", model.namespace)
            except (ForbiddenError, NotFoundError) as error:
                logger.debug("HorizontalPodAutoscalers of %s are not read: %s", model.namespace, error)
                bodies = []
            state.autoscalers = tuple(_scalers_of(model.name, bodies))
        return state.autoscalers

    async def _events(self, model: Model, state: ModelState) -> Mapping[str, Sequence[EventView]]:
        now = self._clock()
        state.events = {uid: state.events[uid] for uid in state.ask_events if uid in state.events}
        for uid in state.ask_events:
            read_at, _ = state.events.get(uid, (float("-inf"), ()))
            if now - read_at < _EVENTS_SECONDS:
                continue
            bodies = await self._kube.list("v1", "Event", model.namespace, field_selector=f"involvedObject.uid={uid}")
            bodies.sort(key=lambda body: str(body.get("lastTimestamp") or body.get("eventTime") or ""))
            state.events[uid] = (now, tuple(EventView.of(body) for body in bodies))
        return {uid: events for uid, (_, events) in state.events.items()}

    async def _progress(self, model: Model, state: ModelState) -> Mapping[str, Any] | None:
        pod = state.read_progress
        if pod is None or not self._merge_progress:
            return None
        if pod != state.progress_pod:
            state.progress_pod, state.progress, state.progress_at = pod, None, float("-inf")
        if self._clock() - state.progress_at >= _PROGRESS_SECONDS:
            state.progress_at = self._clock()
            try:
                text = await self._kube.logs(
                    model.namespace,
                    pod,
                    container=c.MERGE_CONTAINER,
                    tail_lines=_LOG_LINES,
                    limit_bytes=_LOG_BYTES,
                )
            except KubeError as error:  # not started, already gone, or forbidden: the progress is not essential
                logger.debug("no log of %s: %s", pod, error)
            else:
                state.progress = last_progress(text) or state.progress
        return state.progress

    async def _forget_solved_conflicts(self, model: Model, state: ModelState) -> None:
        for ref in tuple(state.conflicts):
            found = await self._kube.get(ref, model.namespace)
            if found is None or is_ours(model, found):
                state.conflicts.discard(ref)


def _scalers_of(model: str, bodies: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for body in bodies:
        target = table(body, "spec", "scaleTargetRef")
        group = text(target.get("apiVersion")).partition("/")[0]
        if (group, text(target.get("kind")), text(target.get("name"))) == (c.GROUP, c.KIND, model):
            yield f"HorizontalPodAutoscaler {text(table(body, 'metadata').get('name'))}"
