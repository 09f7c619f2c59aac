"""What serves a model, what should serve it, and what is done next, as the status and the reports read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from vicuna_operator.planning.actions import Action, NewEvent
from vicuna_operator.planning.autoscaling import Decision
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.diagnosis import PodDiagnosis
from vicuna_operator.planning.pods import PodView
from vicuna_operator.planning.rollout import Rollout, RolloutState
from vicuna_operator.planning.sizes import Fleet
from vicuna_operator.resources.images import Images

__all__ = ["ServingStage"]

_IDLE = Rollout(RolloutState.IDLE)


@dataclass(frozen=True, kw_only=True)
class ServingStage:
    """What serves, what should serve, and the steps between.

    `active` is the revision whose pods are ready, the one in the status while several are; None before the first.
    `superseded` are revisions whose rollout ended unfinished because the spec has changed; `lost` are pods that should
    have ended and count no more.
    """

    target: str | None
    images: Images | None
    active: DeploymentView | None
    fleet: Fleet
    rollout: Rollout = _IDLE
    target_deployment: DeploymentView | None = None
    last_known_good: DeploymentView | None = None
    diagnosis: PodDiagnosis | None = None
    superseded: Sequence[DeploymentView] = ()
    lost: Sequence[PodView] = ()
    pulling: Sequence[PodView] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)  # pods that each revision gets now
    fault: str = ""  # why no revision can serve these weights; what served before goes on
    contested: Sequence[str] = ()  # fields that somebody rewrites each time they are put back
    actions: Sequence[Action] = ()
    new_events: Sequence[NewEvent] = ()
    requeue_after: float | None = None
    scale: Decision | None = None  # None: the spec states how many replicas there are

    @property
    def is_asleep(self) -> bool:
        """Tell whether there are no pods only until the next request."""
        return self.scale is not None and self.scale.desired == 0 and self.scale.is_free

    def rollout_since(self, now: datetime) -> datetime | None:
        """Return when the rollout of the target began; None when none is under way."""
        if self.rollout.state is RolloutState.STARTING:
            return now
        under_way = self.rollout.state in (RolloutState.PROGRESSING, RolloutState.FAILED)
        return self.target_deployment.started if under_way and self.target_deployment is not None else None
