"""The demand for one model, as gateways state it and the operator's own clock has seen it.

Only the operator's clock is used: the times in the objects are of the gateways' clocks, which may differ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vicuna_contract.demand import RENEW_SECONDS
from vicuna_operator.api.types import ServingSpec

__all__ = ["STALE_SECONDS", "DemandView", "Peak", "ReplicaDemand", "after_change", "counts_for"]

STALE_SECONDS = 3 * RENEW_SECONDS


@dataclass(frozen=True)
class ReplicaDemand:
    """What one replica of a gateway has for the model; `renewed` is when its object was seen to be written last."""

    replica: str
    under_way: int
    held: int
    renewed: datetime

    @property
    def total(self) -> int:
        """Return the requests that count."""
        return self.under_way + self.held


@dataclass(frozen=True)
class Peak:
    """A former total of all replicas that was never reached again; `until` is when it ended."""

    total: int
    until: datetime


@dataclass(frozen=True)
class DemandView:
    """The demand for one model.

    Attributes:
        since: since when it has been watched without a gap.
        replicas: the gateways' replicas that count.
        peaks: former totals above the present one; each is lower than the one before it, and ended later.
        look_again: when an object that is not renewed stops counting, or the watch counts as lost; None: never.
    """

    since: datetime
    replicas: Sequence[ReplicaDemand] = ()
    peaks: Sequence[Peak] = ()
    look_again: datetime | None = None

    @property
    def total(self) -> int:
        """Return the requests under way and held, of all replicas."""
        return sum(replica.total for replica in self.replicas)

    @property
    def idle_since(self) -> datetime:
        """Return when the last request ended, or since when none is known."""
        return max([self.since, *(peak.until for peak in self.peaks[-1:])])

    def after(self, moment: datetime) -> Iterator[Peak]:
        """Yield the peaks that ended after a moment."""
        return (peak for peak in self.peaks if peak.until > moment)


def after_change(peaks: Sequence[Peak], before: int, total: int, now: datetime) -> tuple[Peak, ...]:
    """Return the peaks after the total has changed: those that it has reached again are none any more."""
    ended = [Peak(before, now)] if before > total else []
    return tuple(peak for peak in (*peaks, *ended) if peak.total > total)


def counts_for(serving: ServingSpec) -> timedelta:
    """Return how long an object counts that is not renewed: as long as a request of its replica may still run."""
    return timedelta(seconds=max(STALE_SECONDS, serving.max_stream_seconds))
