"""The demand that gateways state in VicunaUsages, summed up for each model with autoscaling.

A model is woken when the demand is more than its replicas are enough for; when there may be fewer, its loop looks by
itself. So requests that come and go cause no pass.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vicuna_contract.demand import demand_of
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import AutoscalingSpec
from vicuna_operator.controller.snapshot import Key
from vicuna_operator.kube.watch import Page, Place
from vicuna_operator.planning.demand import STALE_SECONDS, DemandView, Peak, ReplicaDemand, after_change, counts_for
from vicuna_operator.planning.lenient import table, text

__all__ = ["DemandObject", "Demands"]

_LOST = timedelta(seconds=STALE_SECONDS)


@dataclass(frozen=True)
class DemandObject:
    """A VicunaUsage of one gateway's replica: for each model the requests under way and held."""

    place: Place
    version: str
    entries: Mapping[Key, tuple[int, int]]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "DemandObject":
        """Read one."""
        metadata = table(body, "metadata")
        namespace, name, version = (text(metadata.get(key)) for key in ("namespace", "name", "resourceVersion"))
        entries = {(each.namespace, each.name): (each.under_way, each.held) for each in demand_of(body)}
        return cls((namespace, name), version, {key: counts for key, counts in entries.items() if any(counts)})


@dataclass
class _Watched:
    """A model that asks for its demand: since when, former totals, and the requests its replicas are enough for."""

    since: datetime
    peaks: tuple[Peak, ...] = ()
    enough: int | None = None  # None: more requests change nothing


class Demands:
    """What is known of the demand.

    Args:
        on_change: called with the key of a model that needs a pass.
        now: the operator's clock.
    """

    def __init__(self, on_change: Callable[[Key], None], now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._on_change = on_change
        self._now = now
        self._objects: dict[Place, DemandObject] = {}
        self._by_model: dict[Key, dict[Place, ReplicaDemand]] = {}
        self._watched: dict[Key, _Watched] = {}
        self._since: datetime | None = None  # None: the watch is not there
        self._lost: datetime | None = None
        self._tried = asyncio.Event()

    def totals(self) -> Mapping[Key, int]:
        """Return the requests under way and held, for each model that asks."""
        return {key: self._total(key) for key in self._watched}

    async def view(self, model: Model) -> DemandView | None:
        """Return a model's demand, None where it cannot be read; from now on it is woken when it changes.

        Waits until the first list has been tried. A model without autoscaling is forgotten.
        """
        key, scaling = (model.namespace, model.name), model.spec.serving.autoscaling if model.spec else None
        if model.spec is None or scaling is None:
            self.forget(key)
            return None
        await self._tried.wait()
        now = self._now()
        watched = self._watched.setdefault(key, _Watched(now))
        counts = counts_for(model.spec.serving)
        self._leave_out(key, [place for place, at in self._renewals(key).items() if at + counts <= now], now)
        watched.peaks = _recent(watched.peaks, scaling, now)
        return self._view(key, watched, counts, now)

    def set_enough(self, key: Key, requests: int | None) -> None:
        """Say above how many requests a model is to be woken; None: never."""
        watched = self._watched.get(key)
        if watched is not None:
            watched.enough = requests
            self._wake_if_short(key, watched)

    def forget(self, key: Key) -> None:
        """Drop what is kept of a model that does not ask any more."""
        self._watched.pop(key, None)

    def known_in(self, namespace: str | None) -> set[Place]:
        """Return the objects that are there in a namespace, or in all (None)."""
        return {place for place in self._objects if namespace in (None, place[0])}

    def apply_page(self, page: Page[DemandObject]) -> None:
        """Apply changes of the watch, or a part of a list."""
        for item in page.there:
            known = self._objects.get(item.place)
            if known is None or known.version != item.version:  # a list shows again what was not written since
                self._replace(item.place, item)
        for place in page.gone:
            self._replace(place, None)

    def set_reached(self, reached: bool) -> None:
        """Take note that everything was listed, or that list or watch failed: then all windows begin again."""
        now, was_lost = self._now(), self._since is None
        self._tried.set()
        if reached:
            self._since, self._lost = self._since or now, None
        elif not was_lost:
            self._since, self._lost = None, now
        for key, watched in self._watched.items():
            if not reached:
                watched.peaks = ()
            elif was_lost:
                self._on_change(key)

    def _view(self, key: Key, watched: _Watched, counts: timedelta, now: datetime) -> DemandView | None:
        if self._since is None and (self._lost is None or now >= self._lost + _LOST):
            return None
        ends = [at + counts for at in self._renewals(key).values()]
        return DemandView(
            since=max(self._since, watched.since) if self._since is not None else now,
            replicas=tuple(self._by_model.get(key, {}).values()),
            peaks=watched.peaks,
            look_again=min([*ends, *([self._lost + _LOST] if self._lost is not None else [])], default=None),
        )

    def _replace(self, place: Place, item: DemandObject | None) -> None:
        before, now = self._objects.pop(place, None), self._now()
        if item is not None:
            self._objects[place] = item
        after = item.entries if item is not None else {}
        for key in {**(before.entries if before is not None else {}), **after}:
            total = self._total(key)
            models = self._by_model.setdefault(key, {})
            models.pop(place, None)
            if counts := after.get(key):
                models[place] = ReplicaDemand(place[1], *counts, renewed=now)
            self._changed(key, total, now)

    def _leave_out(self, key: Key, places: Iterable[Place], now: datetime) -> None:
        """Leave out what is stated by replicas that must have been lost, until they write again."""
        total = self._total(key)
        for place in places:
            del self._by_model[key][place]
        self._changed(key, total, now)

    def _changed(self, key: Key, before: int, now: datetime) -> None:
        if not self._by_model.get(key):
            self._by_model.pop(key, None)
        watched, total = self._watched.get(key), self._total(key)
        if watched is not None:
            watched.peaks = after_change(watched.peaks, before, total, now)
            if total > before:
                self._wake_if_short(key, watched)

    def _wake_if_short(self, key: Key, watched: _Watched) -> None:
        if watched.enough is not None and self._total(key) > watched.enough:
            self._on_change(key)

    def _total(self, key: Key) -> int:
        return sum(replica.total for replica in self._by_model.get(key, {}).values())

    def _renewals(self, key: Key) -> Mapping[Place, datetime]:
        return {place: replica.renewed for place, replica in self._by_model.get(key, {}).items()}


def _recent(peaks: Iterable[Peak], scaling: AutoscalingSpec, now: datetime) -> tuple[Peak, ...]:
    """Return the peaks that a window may still have to do with."""
    longest = timedelta(seconds=max(scaling.idle_seconds, scaling.scale_down_seconds))
    return tuple(peak for peak in peaks if peak.until + longest > now)
