"""One pass over one model: observe, plan, act, report."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.controller.claims import Claims
from vicuna_operator.controller.demands import Demands
from vicuna_operator.controller.dry_runs import DryRuns
from vicuna_operator.controller.event_recorder import EventRecorder
from vicuna_operator.controller.executor import ActionRefusedError, NameTakenError, RelabelledError, StaleError, execute
from vicuna_operator.controller.logs import DecisionLine
from vicuna_operator.controller.model_state import NEVER, ModelState, newer_body
from vicuna_operator.controller.observer import Observer
from vicuna_operator.controller.other_operators import OtherOperators
from vicuna_operator.controller.snapshot import Key, Snapshot
from vicuna_operator.controller.status import status_patch, without_nulls
from vicuna_operator.errors import ConflictError, NotFoundError
from vicuna_operator.kube.port import Kube, ref_of
from vicuna_operator.planning.actions import Action, Create, Plan, Ref
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.planning.observed import Observed
from vicuna_operator.planning.stopped_status import unfit

__all__ = ["Planner", "Planning", "Reconciler"]

logger = logging.getLogger(__name__)

_SOON = 0.2
_STALE_MAX = 30.0
_PROGRESS_SECONDS = 5.0
_CONFLICT_SECONDS = 10.0

OnStatus = Callable[[Mapping[str, Any], Mapping[str, Any], datetime], None]  # old status, new status, when
Refused = Callable[[Model, str, str, datetime], Mapping[str, Any]]  # model, action, the API's words, when
Planner = Callable[[Model, Observed, PlanConfig, datetime], Plan]


@dataclass(frozen=True)
class Planning:
    """The pure functions that decide.

    `refused` renders the status of a model whose action the API refused, `unfit` where it finds the object invalid.
    """

    plan: Planner
    claims_to_read: Callable[[Model], Sequence[str]]
    refused: Refused
    unfit: Refused = unfit


def _possible(actions: Sequence[Action], there: set[Ref]) -> Sequence[Action]:
    """Leave out creations that would meet an existing object, so that the other actions are carried out."""
    return [item for item in actions if not (isinstance(item, Create) and ref_of(item.body) in there)]


class Reconciler:
    """Makes passes over models; what it keeps in memory may be lost at any moment."""

    def __init__(
        self,
        kube: Kube,
        snapshot: Snapshot,
        planning: Planning,
        config: PlanConfig,
        *,
        instance: str = c.MANAGED_BY,
        manager: str = "",
        on_status: OnStatus = lambda *_: None,
        wake: Callable[[Key], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._snapshot = snapshot
        self._planning = planning
        self._config = config
        self._on_status = on_status
        self._now = now
        self._clock = clock
        self._recorder = EventRecorder(kube, instance, clock=clock)
        self._dry_runs = DryRuns(kube, clock=clock)
        self._others = OtherOperators(kube, manager, now=now, clock=clock)
        self.claims = Claims(kube, planning.claims_to_read, wake, clock=clock)
        self.demands = Demands(wake, now)
        self._observer = Observer(
            kube,
            snapshot,
            self.claims,
            self.demands,
            merge_progress=config.merge_progress,
            policies=config.network_peers is not None,
            clock=clock,
        )
        self._states: dict[Key, ModelState] = {}

    @property
    def left_alone(self) -> int:
        """Return how many models are left to other operators."""
        return sum(1 for state in self._states.values() if state.left and not state.gone)

    def exists(self, key: Key) -> bool:
        """Tell whether the model is there, as far as is known."""
        body = self._snapshot.model(key)
        state = self._states.get(key)
        return body is not None and not (state and state.gone and state.uid == body["metadata"]["uid"])

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a model that is gone."""
        self.claims.forget(key)
        self.demands.forget(key)
        state = self._states.get(key)
        if state is not None and not state.gone:
            del self._states[key]

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass; return after how many seconds to make the next, None: only on an event.

        Raises:
            KubeError: the API refused or failed; the pass should be repeated after a while.
        """
        indexed = self._snapshot.model(key)
        if indexed is None:
            return None
        state = self._state(key, str(indexed["metadata"]["uid"]))
        if self._observer.audit_due(state):
            await self._observer.audit(key, state)
            if state.gone:
                return None
        try:
            again = await self._plan_and_act(key, state)
        except StaleError as stale:
            logger.debug("%s/%s: plan again: %s", *key, stale)
            state.audited = NEVER  # the index may be wrong: compare it with the API
            state.stale += 1
            return min(_SOON * 2.0 ** min(state.stale, 10), _STALE_MAX)
        state.stale = 0
        return again

    def _state(self, key: Key, uid: str) -> ModelState:
        state = self._states.get(key)
        if state is None or state.uid != uid:
            # No audit at first: the watches have just listed everything.
            state = self._states[key] = ModelState(uid, audited=self._clock())
        return state

    def _body(self, key: Key, state: ModelState) -> Mapping[str, Any]:
        indexed = self._snapshot.model(key)
        if indexed is None or indexed["metadata"]["uid"] != state.uid:
            raise StaleError("the model is gone")
        return newer_body(indexed, state.newest)

    async def _plan_and_act(self, key: Key, state: ModelState) -> float | None:
        decided: Mapping[str, object] = {}
        state.relabelled.clear()
        try:
            # Each round finds one more name conflict; a model has far fewer names than there are rounds.
            for _ in range(8):
                body = self._body(key, state)
                model = parse_model(body)
                if model.going:
                    decided = {"reason": "Deleting"}
                    return None  # the garbage collector deletes its children
                if (
                    elsewhere := await self._others.managed_elsewhere(model, state, body.get("status") or {})
                ) is not None:
                    decided = {"reason": elsewhere.event.reason}
                    await self._recorder.record(body, [elsewhere.event])
                    return elsewhere.requeue_after
                plan = await self._plan(model, state)
                decided = plan.decision
                self.demands.set_enough(key, plan.enough_for)
                try:
                    await execute(self._kube, model, _possible(plan.actions, {*state.conflicts, *state.relabelled}))
                except NameTakenError as taken:
                    state.conflicts.add(taken.ref)
                    continue
                except RelabelledError as relabelled:
                    state.relabelled[relabelled.ref] = str(relabelled)
                    continue
                except ActionRefusedError as refusal:
                    tell = self._planning.unfit if refusal.invalid else self._planning.refused
                    status = tell(model, refusal.description, str(refusal.error), self._now())
                    await self._write_status(key, state, body, status)
                    raise refusal.error from refusal
                await self._recorder.record(body, plan.new_events)
                if plan.status is not None:
                    await self._write_status(key, state, body, plan.status)
                return self._when_again(state, plan)
            raise StaleError("one name conflict after the other")
        finally:
            logger.debug("%s/%s: pass: %s", *key, DecisionLine(decided))

    async def _plan(self, model: Model, state: ModelState) -> Plan:
        """Observe and plan; where the plan asks for a dry run, make it and plan again with the answer."""
        # The children of a model that a finalizer keeps are not touched, and so not observed.
        seen = Observed() if model.deleting else await self._observer.observe(model, state)
        plan = self._planning.plan(model, seen, self._config, self._now())
        if plan.dry_run is None:
            return plan
        answer = await self._dry_runs.ask(model, plan.dry_run)
        state.dry_run = replace(answer, is_new=False)
        return self._planning.plan(model, replace(seen, dry_run=answer), self._config, self._now())

    def _when_again(self, state: ModelState, plan: Plan) -> float | None:
        wishes = [] if plan.requeue_after is None else [plan.requeue_after]
        read_progress = plan.read_progress if self._config.merge_progress else None
        if set(plan.ask_events) - set(state.ask_events) or read_progress not in (None, state.read_progress):
            wishes.append(_SOON)  # the next pass reads what this plan asks for
        if read_progress:
            wishes.append(_PROGRESS_SECONDS)
        if state.conflicts:
            wishes.append(_CONFLICT_SECONDS)
        state.ask_events, state.read_progress = tuple(plan.ask_events), plan.read_progress
        return min(wishes) if wishes else None

    async def _write_status(
        self, key: Key, state: ModelState, body: Mapping[str, Any], status: Mapping[str, Any]
    ) -> None:
        """Write the status if it has changed, with the object it was computed from as precondition."""
        old, new = body.get("status") or {}, self._others.marked(without_nulls(status))
        patch = status_patch(old, new)
        if patch is None:
            return
        if new == state.sent and old == state.kept:
            logger.debug("%s/%s: the CRD does not keep all of the status", *key)
            return
        current = self._body(key, state)
        if current["metadata"].get("generation") != body["metadata"].get("generation"):
            raise StaleError("the spec changed during the pass")
        precondition = {"uid": state.uid, "resourceVersion": body["metadata"]["resourceVersion"]}
        ref = Ref(c.API_VERSION, c.KIND, key[1])
        try:
            answer = await self._kube.patch(
                ref, key[0], {"metadata": precondition, "status": patch}, subresource="status"
            )
        except (ConflictError, NotFoundError) as error:
            raise StaleError(str(error)) from error
        self._on_status(old, new, self._now())
        state.newest, state.sent, state.kept = answer, new, answer.get("status") or {}
