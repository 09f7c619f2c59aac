"""The containers of a pod as planning sees them: the operator's own by its name, whatever else stands beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from vicuna_operator.planning.lenient import moment

__all__ = ["ContainerView", "Termination", "containers_of"]


@dataclass(frozen=True)
class Termination:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    finished: str


@dataclass(frozen=True)
class ContainerView:
    """The state of one container; one that has no state yet waits without a reason."""

    name: str
    waiting_reason: str = ""
    waiting_message: str = ""
    running: bool = False
    terminated: Termination | None = None  # now ended
    last_terminated: Termination | None = None  # ended before the present try
    restarts: int = 0
    started: datetime | None = None  # when it began to run; None while it does not

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read one entry of a pod's containerStatuses."""
        state = body.get("state") or {}
        waiting = state.get("waiting") or {}
        return cls(
            name=str(body.get("name", "")),
            waiting_reason=str(waiting.get("reason", "")),
            waiting_message=str(waiting.get("message", "")),
            running="running" in state,
            terminated=_termination(state),
            last_terminated=_termination(body.get("lastState") or {}),
            restarts=int(body.get("restartCount") or 0),
            started=moment((state.get("running") or {}).get("startedAt")),
        )


def containers_of(status: Mapping[str, Any], own: str) -> tuple[ContainerView, Sequence[ContainerView]]:
    """Return the container named `own`, and those beside it, which others have added."""
    found = [ContainerView.of(item) for item in status.get("containerStatuses") or ()]
    mine = next((item for item in found if item.name == own), ContainerView(own))
    return mine, tuple(item for item in found if item.name != own)


def _termination(state: Mapping[str, Any]) -> Termination | None:
    ended = state.get("terminated")
    if not ended:
        return None
    return Termination(
        exit_code=int(ended.get("exitCode", 0)),
        reason=str(ended.get("reason", "")),
        message=str(ended.get("message", "")),
        finished=str(ended.get("finishedAt") or ""),
    )
