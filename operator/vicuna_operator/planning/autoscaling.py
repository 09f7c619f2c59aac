"""How many replicas a model with `serving.autoscaling` should have: rules over the demand, without any memory.

- Enough for the requests under way and held, at once.
- Fewer only when fewer were enough for `scaleDownSeconds` without a break, and then as many as were needed most.
- None, with `minReplicas: 0`, when there was no request at all for `idleSeconds`, however many there were.
- As many as before while the demand cannot be read, or while another autoscaler writes to the model.

A window that was not watched from its beginning on is not over: after a restart of the operator all begin again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.types import AutoscalingSpec
from vicuna_operator.planning.demand import DemandView

__all__ = ["Decision", "Situation", "decide", "needed"]

_RIVAL_SECONDS = 30.0


@dataclass(frozen=True)
class Situation:
    """What the decision rests on beside the settings.

    Attributes:
        demand: None where it cannot be read.
        current: the number decided last; None where there was none.
        trying: a revision has to show that it works, so there is one replica at least.
        idle_from: from when on idleness counts, whatever was before; None: from the last request.
        rivals: other autoscalers of this model.
    """

    demand: DemandView | None
    current: int | None = None
    trying: bool = False
    idle_from: datetime | None = None
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """How many replicas there should be, and why.

    `demand` is None where it is not known. `enough_for` is how many requests need no more; None where none ever does.
    """

    desired: int
    reason: str
    message: str
    demand: int | None = None
    enough_for: int | None = None
    requeue_after: float | None = None

    @property
    def is_free(self) -> bool:
        """Tell whether the rules decided; otherwise the number stays as it is until a cause is removed."""
        return self.reason not in (Reason.TWO_SCALERS, Reason.DEMAND_UNKNOWN)


def decide(settings: AutoscalingSpec, situation: Situation, now: datetime) -> Decision:
    """Return the number of replicas; with the same demand, deciding again changes nothing."""
    floor = max(settings.min_replicas, int(situation.trying))
    kept = min(max(situation.current or 0, floor), settings.max_replicas)
    if situation.rivals:
        message = f"{', '.join(situation.rivals)} scales this model too; there are {kept} until one of the two is gone"
        return Decision(kept, Reason.TWO_SCALERS, message, requeue_after=_RIVAL_SECONDS)
    demand = situation.demand
    if demand is None:
        return Decision(kept, Reason.DEMAND_UNKNOWN, f"the gateways' demand cannot be read; {kept} stay until it can")
    desired = _desired(settings, situation, demand, kept, now)
    reason, message = _why(settings, situation, demand, desired, kept)
    return Decision(
        desired,
        reason,
        message,
        demand=demand.total,
        enough_for=desired * settings.target_requests if desired < settings.max_replicas else None,
        requeue_after=_look_again(settings, situation, demand, desired, now),
    )


def needed(settings: AutoscalingSpec, total: int) -> int:
    """Return how many replicas a number of requests needs, within the bounds."""
    enough = max(settings.min_replicas, -(-total // settings.target_requests))
    return min(enough, settings.max_replicas)


def _desired(settings: AutoscalingSpec, situation: Situation, demand: DemandView, kept: int, now: datetime) -> int:
    wanted = max(needed(settings, demand.total), int(situation.trying))
    if wanted >= kept:
        return wanted
    if wanted == 0 and now >= _sleeps_at(settings, situation, demand):
        return 0
    return max(1, min(kept, _highest(settings, demand, kept, now)))


def _highest(settings: AutoscalingSpec, demand: DemandView, kept: int, now: datetime) -> int:
    """Return how many replicas were needed most in the window that ends now."""
    begun = now - timedelta(seconds=settings.scale_down_seconds)
    if demand.since > begun:
        return kept
    totals = [demand.total, *(peak.total for peak in demand.after(begun))]
    return needed(settings, max(totals))


def _sleeps_at(settings: AutoscalingSpec, situation: Situation, demand: DemandView) -> datetime:
    since = max(filter(None, (demand.idle_since, situation.idle_from)))
    return since + timedelta(seconds=settings.idle_seconds)


def _look_again(
    settings: AutoscalingSpec, situation: Situation, demand: DemandView, desired: int, now: datetime
) -> float | None:
    """Return in how many seconds there may be fewer, at the earliest. More are told of by the demand itself."""
    moments = [demand.look_again]
    if desired > max(1, settings.min_replicas):
        moments.append(_window_ends(settings, demand, desired, now))
    if desired and not settings.min_replicas and not situation.trying:
        idle = timedelta(seconds=settings.idle_seconds)
        moments.append(now + idle if demand.total else _sleeps_at(settings, situation, demand))
    left = [(moment - now).total_seconds() for moment in moments if moment is not None]
    return max(0.0, min(left)) if left else None


def _window_ends(settings: AutoscalingSpec, demand: DemandView, desired: int, now: datetime) -> datetime:
    """Return until when the desired number may still have been needed in the window."""
    window = timedelta(seconds=settings.scale_down_seconds)
    if needed(settings, demand.total) >= desired:
        return now + window
    ends = [peak.until for peak in demand.peaks if needed(settings, peak.total) >= desired]
    return max([demand.since, *ends]) + window


def _why(
    settings: AutoscalingSpec, situation: Situation, demand: DemandView, desired: int, kept: int
) -> tuple[str, str]:
    total, target = demand.total, settings.target_requests
    asked = f"{total} requests under way or held, {target} for each replica"
    if desired == 0:
        return Reason.ASLEEP, f"no request for {settings.idle_seconds} s" if kept else "no request"
    if situation.trying and desired == 1 and not total:
        return "NewRevision", "a new revision is tried once"
    if total > target * settings.max_replicas:
        return "MaxReplicas", f"{asked}; maxReplicas is {settings.max_replicas}"
    if needed(settings, total) < desired:
        return "WindowOpen", f"{asked}; fewer only after {settings.scale_down_seconds} s of less demand"
    return "Demand", asked if total else f"no request; minReplicas is {settings.min_replicas}"
