"""Metric series that are limited in number, and are removed with the model or key that they name.

Models, keys, revisions and statuses come from outside. The process and its /metrics must not grow with them: a server
may state a new revision with every response, and objects come and go for months.
"""

import time
from collections.abc import Callable, Collection
from typing import Generic, NamedTuple, TypeVar

from prometheus_client.metrics import MetricWrapperBase

__all__ = ["OTHER", "OTHER_KEYS", "Bounds", "Children", "Revisions", "Series"]

OTHER = "other"
"""The label `revision` of what is counted together."""
OTHER_KEYS = "(other)"
"""The label `key` of what is counted together; no key can have this name."""
_ROOM_SECONDS = 60.0
Child = TypeVar("Child", bound=MetricWrapperBase)


class Bounds(NamedTuple):
    """How many series there may be; beyond that, a model's keys and revisions are counted together.

    Attributes:
        each: of one model.
        all: of all models.
        revisions: of one model.
        idle_seconds: after which a revision without a response makes room for another.
    """

    each: int = 10_000
    all: int = 50_000
    revisions: int = 32
    idle_seconds: float = 24 * 3600.0


class Labels(NamedTuple):
    """The labels of a series; empty where it does not have one."""

    model: str = ""
    revision: str = ""
    key: str = ""
    more: tuple[str, ...] = ()


class Revisions:
    """The revisions of each model that have series of their own."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._clock = clock
        self._known: dict[str, dict[str, float]] = {}

    def admit(self, model: str, revision: str) -> tuple[str, list[str]]:
        """Return the revision's label, and the revisions that made room for it."""
        if not revision:
            return "", []
        known, now, gone = self._known.setdefault(model, {}), self._clock(), list[str]()
        if revision not in known and len(known) >= self._bounds.revisions:
            gone = [each for each, at in known.items() if now - at > self._bounds.idle_seconds]
            for each in gone:
                del known[each]
            if not gone:
                return OTHER, []
        known[revision] = now
        return revision, gone

    def retain(self, models: Collection[str]) -> None:
        """Forget the revisions of all other models."""
        self._known = {model: known for model, known in self._known.items() if model in models}


class Children(Generic[Child]):
    """The series of one metric.

    Args:
        metric: labelled by those of `Labels` that it names, in that order, then by `more`.
        named: which of model, revision and key it is labelled by.
        weight: series of the exposition for each set of labels.
    """

    def __init__(self, metric: Child, named: tuple[str, ...], weight: int) -> None:
        self._metric = metric
        self._named = named
        self.weight = weight
        self._children: dict[Labels, Child] = {}

    def find(self, labels: Labels) -> Child | None:
        """Return the series of these labels; None where there is none."""
        return self._children.get(labels)

    def make(self, labels: Labels) -> Child:
        """Return a new series."""
        child = self._children[labels] = self._metric.labels(*self._values(labels))
        return child

    def drop(self, gone: Callable[[Labels], bool]) -> list[str]:
        """Remove series; return the model of each."""
        dropped = [labels for labels in self._children if gone(labels)]
        for labels in dropped:
            del self._children[labels]
            self._metric.remove(*self._values(labels))
        return [labels.model for labels in dropped]

    def _values(self, labels: Labels) -> list[str]:
        return [*(getattr(labels, name) for name in self._named), *labels.more]


class Series:
    """All series of a process.

    Args:
        bounds: how many there may be.
        make_room: called at most once a minute where there are too many; removes what is gone by `retain`.
        clock: seconds that only grow.
    """

    def __init__(
        self, bounds: Bounds, make_room: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = bounds
        self._make_room = make_room
        self._clock = clock
        self._made_room = -_ROOM_SECONDS
        self._revisions = Revisions(bounds, clock)
        self._metrics: list[Children[MetricWrapperBase]] = []
        self._counts: dict[str, int] = {}
        self._total = 0

    def add(self, children: Children[Child]) -> Children[Child]:
        """Count a metric's series with the others."""
        self._metrics.append(children)  # type: ignore[arg-type]
        return children

    def child(self, children: Children[Child], labels: Labels) -> Child:
        """Return the series of these labels, or the one that counts them together with others."""
        found = children.find(labels)
        if found is not None:
            return found
        if not self._fits(labels.model, children.weight):
            labels = labels._replace(revision=labels.revision and OTHER, key=labels.key and OTHER_KEYS)
            found = children.find(labels)
            if found is not None:
                return found
        self._counts[labels.model] = self._counts.get(labels.model, 0) + children.weight
        self._total += children.weight
        return children.make(labels)

    def _fits(self, model: str, weight: int) -> bool:
        """Whether `weight` more series may be added; first removes what is gone, if there are too many."""
        if self._total + weight > self._bounds.all and self._clock() - self._made_room >= _ROOM_SECONDS:
            self._made_room = self._clock()
            self._make_room()
        return self._counts.get(model, 0) + weight <= self._bounds.each and self._total + weight <= self._bounds.all

    def revision(self, model: str, revision: str) -> str:
        """Return the name under which a revision is counted."""
        name, gone = self._revisions.admit(model, revision)
        if gone:
            self._drop(lambda labels: labels.model == model and labels.revision in gone)
        return name

    def retain(self, models: Collection[str], keys: Collection[str]) -> None:
        """Remove the series of all other models and keys."""
        models, keys = {"", *models}, {"", OTHER_KEYS, *keys}
        self._revisions.retain(models)
        self._drop(lambda labels: labels.model not in models or labels.key not in keys)

    def _drop(self, gone: Callable[[Labels], bool]) -> None:
        for children in self._metrics:
            for model in children.drop(gone):
                self._total -= children.weight
                self._counts[model] -= children.weight
                if not self._counts[model]:
                    del self._counts[model]
