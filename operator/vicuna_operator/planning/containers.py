"""The containers of a pod as planning sees them: the operator's own, found by its name, and all others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.lenient import INT32, moment, table, tables, text, whole

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
        state, waiting = table(body, "state"), table(body, "state", "waiting")
        return cls(
            name=text(body.get("name")),
            waiting_reason=text(waiting.get("reason")),
            waiting_message=text(waiting.get("message")),
            running=state.get("running") is not None,
            terminated=_termination(state),
            last_terminated=_termination(table(body, "lastState")),
            restarts=whole(body.get("restartCount"), most=INT32),
            started=moment(table(state, "running").get("startedAt")),
        )


def containers_of(status: Mapping[str, Any], own: str) -> tuple[ContainerView, Sequence[ContainerView]]:
    """Return the container named `own`, and those beside it, which others have added."""
    found = [ContainerView.of(item) for item in tables(status.get("containerStatuses"))]
    mine = next((item for item in found if item.name == own), ContainerView(own))
    return mine, tuple(item for item in found if item.name != own)


def _termination(state: Mapping[str, Any]) -> Termination | None:
    ended = table(state, "terminated")
    if not ended:
        return None
    return Termination(
        exit_code=whole(ended.get("exitCode", 0), 1, most=INT32),  # an exit code that cannot be read is a failure
        reason=text(ended.get("reason")),
        message=text(ended.get("message")),
        finished=format_time(finished) if (finished := moment(ended.get("finishedAt"))) is not None else "",
    )
