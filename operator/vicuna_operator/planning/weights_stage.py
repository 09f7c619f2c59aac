"""Where the weights of a model stand, as the other stages read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vicuna_contract.heads import Heads
from vicuna_operator.planning.actions import Action, DryRun, NewEvent
from vicuna_operator.planning.failures import Failure

__all__ = ["WeightsStage"]


@dataclass(frozen=True)
class WeightsStage:
    """Where the weights stand: the artifact once it is known, else why not."""

    artifact_id: str | None
    reason: str
    message: str
    chat_template: str | None = None  # what `auto` was resolved to, where a merge has reported it
    digest: str | None = None  # of the artifact's files, where the merge has reported it
    heads: Heads | None = None  # of the artifact's model, where the merge has reported them
    step: str = ""  # the next step for the user, where the cause names one
    failure: Failure | None = None
    stalled: bool = False  # nothing to wait for but the user
    running: bool = False
    verification: str = ""  # key of the last verification of the artifact, finished or under way
    unresolved: str = ""  # why servers still refuse the artifact although it was verified
    attempt: int | None = None
    merge_pod: str | None = None
    progress: Mapping[str, Any] | None = None
    shared_volume: bool = False
    actions: Sequence[Action] = ()
    new_events: Sequence[NewEvent] = ()
    requeue_after: float | None = None
    ask_events: Sequence[str] = ()
    dry_run: DryRun | None = None
