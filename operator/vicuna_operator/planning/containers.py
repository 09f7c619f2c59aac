"""The containers of a pod as planning sees them: the operator's own, found by name, and all others.

A serving pod has one of its own, or two: the engine's beside the server's. Both must run, so they count as one: what
either waits for, or how either ended, keeps the pod from serving.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.lenient import INT32, moment, table, tables, text, whole

__all__ = ["ContainerView", "Termination", "both", "containers_of"]


_STARTING = {"", "ContainerCreating", "PodInitializing"}  # a container that waits for these is in no trouble


@dataclass(frozen=True)
class Termination:
    """How a container ended; `container` is its name."""

    exit_code: int
    reason: str
    message: str
    finished: str
    container: str = ""


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
    started: datetime | None = None  # when it began to run, of two the later; None while it does not
    reads_since: datetime | None = None  # the same, of two the earlier: what that one has read may be older

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Read one entry of a pod's containerStatuses."""
        state, waiting = table(body, "state"), table(body, "state", "waiting")
        name = text(body.get("name"))
        return cls(
            name=name,
            waiting_reason=text(waiting.get("reason")),
            waiting_message=text(waiting.get("message")),
            running=state.get("running") is not None,
            terminated=_termination(state, name),
            last_terminated=_termination(table(body, "lastState"), name),
            restarts=whole(body.get("restartCount"), most=INT32),
            started=moment(table(state, "running").get("startedAt")),
            reads_since=moment(table(state, "running").get("startedAt")),
        )


def containers_of(status: Mapping[str, Any], *own: str) -> tuple[ContainerView, Sequence[ContainerView]]:
    """Return the containers named `own` as one, and those beside them, which others have added.

    The first must be there, or is still to come; the second may be.
    """
    found = [ContainerView.of(item) for item in tables(status.get("containerStatuses"))]
    mine = {item.name: item for item in found if item.name in own}
    first, second = mine.get(own[0], ContainerView(own[0])), mine.get(own[-1])
    main = first if second is None or second is first else both(first, second)
    return main, tuple(item for item in found if item.name not in own)


def both(first: ContainerView, second: ContainerView) -> ContainerView:
    """Return the state of two containers that must both run: of what keeps them from it, the later end, or the wait.

    The name is that of the one that waits or has ended.
    """
    started = [item.started for item in (first, second) if item.started is not None]
    run = len(started) == 2
    halted = first if _halts(first) or not _halts(second) else second
    return replace(
        halted,
        running=first.running and second.running,
        terminated=_later(first.terminated, second.terminated),
        last_terminated=_later(first.last_terminated, second.last_terminated),
        restarts=first.restarts + second.restarts,
        started=max(started) if run else None,
        reads_since=min(started) if run else None,
    )


def _halts(item: ContainerView) -> bool:
    return item.waiting_reason not in _STARTING or item.terminated is not None


def _later(one: Termination | None, other: Termination | None) -> Termination | None:
    known = [item for item in (one, other) if item is not None]
    return max(known, key=lambda item: item.finished, default=None)


def _termination(state: Mapping[str, Any], container: str) -> Termination | None:
    ended = table(state, "terminated")
    if not ended:
        return None
    return Termination(
        exit_code=whole(ended.get("exitCode", 0), 1, most=INT32),  # an exit code that cannot be read is a failure
        reason=text(ended.get("reason")),
        message=text(ended.get("message")),
        finished=format_time(finished) if (finished := moment(ended.get("finishedAt"))) is not None else "",
        container=container,
    )
