"""Whether another operator manages a model: two that do not know of each other would overwrite each other for ever.

`status.managedBy` names the Lease of the managing operator, as NAMESPACE/NAME. The annotation `vicuna.dev/managed-by`
of the model overrules it (`kubectl vicuna takeover`). Another operator takes over where that Lease is gone, or has not
been renewed for ten minutes. Operators before this version do not know the field and remove it with every write. Where
that happens repeatedly, this operator leaves the model to the other one and reports it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.conditions import parse_time
from vicuna_operator.api.model import Model
from vicuna_operator.controller.model_state import NEVER, ModelState
from vicuna_operator.errors import ForbiddenError, KubeError
from vicuna_operator.kube.port import Kube
from vicuna_operator.planning.actions import NewEvent, Ref

__all__ = ["ManagedElsewhere", "OtherOperators"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 60.0
_ABANDONED = timedelta(minutes=10)
_STRIPPED_TIMES = 3
_YIELD_SECONDS = 600.0


@dataclass(frozen=True)
class ManagedElsewhere:
    """That a model is left to another operator, and why."""

    event: NewEvent
    requeue_after: float = _LOOK_SECONDS


class OtherOperators:
    """Tells which models this operator leaves alone.

    Args:
        kube: reads the Leases of others.
        manager: NAMESPACE/NAME of this operator's own Lease; empty: it has none, and works on everything.
        now: aware time, which a foreign Lease's is compared with by minutes only.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        kube: Kube,
        manager: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.manager = manager
        self._kube = kube
        self._now = now
        self._clock = clock
        self._looked: dict[str, tuple[float, bool]] = {}  # Lease → when, whether it is kept

    async def managed_elsewhere(
        self, model: Model, state: ModelState, status: Mapping[str, Any]
    ) -> ManagedElsewhere | None:
        """Return why a model is left to another operator, None where it is ours; `status` is its present one."""
        if not self.manager:
            return None
        asked = model.annotations.get(c.ANNOTATION_MANAGED_BY, "")
        holder = asked or str(status.get("managedBy") or "")
        if holder not in ("", self.manager) and (asked or await self._is_kept(holder)):
            return self._leave(model, state, self._message(model, holder))
        if not holder and self._is_taken_away(state):
            why = (
                "another operator, of a version that does not know status.managedBy, writes this model too; stop one"
                " of the two operators"
            )
            return self._leave(model, state, why, _YIELD_SECONDS)
        state.left = ""
        return None

    def marked(self, status: dict[str, Any]) -> dict[str, Any]:
        """Return a status with the operator that manages the model."""
        return {**status, "managedBy": self.manager} if self.manager else status

    def _message(self, model: Model, holder: str) -> str:
        return (
            f"the operator with the Lease {holder} works on this model, so the one with {self.manager} leaves it alone;"
            f" `kubectl vicuna takeover {model.name} --by {self.manager}` moves it"
        )

    def _leave(self, model: Model, state: ModelState, why: str, wait: float = _LOOK_SECONDS) -> ManagedElsewhere:
        if state.left != why:
            logger.warning("%s/%s: %s", model.namespace, model.name, why)
            state.left = why
        return ManagedElsewhere(NewEvent("Warning", "ManagedElsewhere", why), wait)

    def _is_taken_away(self, state: ModelState) -> bool:
        """Tell whether status.managedBy was removed several times; after a while it is written again."""
        now = self._clock()
        if now < state.yields_until:
            return True
        if (state.kept or {}).get("managedBy") == self.manager:
            state.stripped += 1
            state.kept = None  # count it once for each write
        if state.stripped < _STRIPPED_TIMES:
            return False
        state.stripped, state.yields_until = 0, now + _YIELD_SECONDS
        return True

    async def _is_kept(self, holder: str) -> bool:
        """Tell whether an operator renews its Lease; one that may not be read counts as kept."""
        at, kept = self._looked.get(holder, (NEVER, True))
        if self._clock() - at >= _LOOK_SECONDS:
            kept = await self._look(holder)
            self._looked[holder] = (self._clock(), kept)
        return kept

    async def _look(self, holder: str) -> bool:
        namespace, _, name = holder.partition("/")
        if not namespace or not name:
            return False  # not the name of a Lease
        try:
            found = await self._kube.get(Ref("coordination.k8s.io/v1", "Lease", name), namespace)
        except ForbiddenError:
            return True
        except KubeError as error:
            logger.warning("Cannot read the Lease %s: %s", holder, error)
            return True
        try:
            renewed = parse_time(str((found or {})["spec"]["renewTime"]))
        except (KeyError, TypeError, ValueError):
            return False
        return self._now() - renewed < _ABANDONED
