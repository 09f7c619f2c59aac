"""Prometheus metrics of the gateway, in a registry of its own."""

from collections.abc import Callable, Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vicuna_server.gateway.series import Bounds, Children, Labels, Series
from vicuna_server.protocol.counts import Used

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_HELD_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_PLAIN_STATUSES = frozenset(
    {200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 499, 500, 501, 502, 503, 504}
)
"""Statuses with a label of their own; others are counted by their first digit, since servers can invent any."""
_ALL = ("model", "revision", "key")
_NO_REVISION = ("model", "key")


class Metrics:
    """What happened to requests, by model id, revision and name of the key.

    Args:
        bounds: how many series there may be.

    Attributes:
        present: returns the ids of all models and the names of all keys. The series of others are removed after the
            next exposition, which has them for the last time.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._registry = CollectorRegistry()
        self._series = Series(bounds or Bounds(), self._retain)
        self.present: Callable[[], tuple[Collection[str], Collection[str]]] | None = None
        self._requests = self._counter(
            "vicuna_gateway_requests", "Responses begun; status 499: the client disconnected before", _ALL, "status"
        )
        self._tokens = self._counter(
            "vicuna_gateway_tokens", "Tokens of requests, including those whose response ended early", _ALL, "kind"
        )
        self._refused = self._counter(
            "vicuna_gateway_refused",
            "Requests refused before a model was found; key: empty where none was accepted",
            ("key",),
            "status",
        )
        first_byte = Histogram(
            "vicuna_gateway_time_to_first_byte_seconds",
            "From a request's arrival to the first byte of its response",
            _ALL,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first_byte = self._series.add(Children(first_byte, _ALL, len(_SECONDS) + 4))
        self._retries = self._counter("vicuna_gateway_retries", "Requests sent again to another endpoint", _NO_REVISION)
        self._broken = self._counter(
            "vicuna_gateway_streams_broken",
            "Responses whose server was lost after the first byte, and which ended there",
            _ALL,
        )
        self._continued = self._counter(
            "vicuna_gateway_streams_continued",
            "Streams whose server was lost, and which another one went on with",
            _ALL,
        )
        self._hand_overs = self._counter(
            "vicuna_gateway_hand_overs",
            "Streams of servers that stop, for which another one was asked; by whether it took them",
            _ALL,
            "taken",
        )
        in_flight = Gauge(
            "vicuna_gateway_requests_in_flight", "Requests under way", _NO_REVISION, registry=self._registry
        )
        self._in_flight = self._series.add(Children(in_flight, _NO_REVISION, 1))
        held = Gauge(
            "vicuna_gateway_requests_held",
            "Requests that wait until a server of their model is ready",
            _NO_REVISION,
            registry=self._registry,
        )
        self._held = self._series.add(Children(held, _NO_REVISION, 1))
        held_seconds = Histogram(
            "vicuna_gateway_held_seconds",
            "How long requests waited until a server of their model was ready, or none could be",
            ("model",),
            buckets=_HELD_SECONDS,
            registry=self._registry,
        )
        self._held_seconds = self._series.add(Children(held_seconds, ("model",), len(_HELD_SECONDS) + 4))
        self._hold_refused = self._counter(
            "vicuna_gateway_hold_refused",
            "Requests for a model without a ready server that were refused, since too many waited",
            _NO_REVISION,
            "bound",
        )

    def in_flight(self, model: str, key: str) -> Gauge:
        """Return the count of a model's requests under way."""
        return self._series.child(self._in_flight, Labels(model, key=key))

    def held(self, model: str, key: str) -> Gauge:
        """Return the count of requests that wait for a model."""
        return self._series.child(self._held, Labels(model, key=key))

    def hold_ended(self, model: str, seconds: float) -> None:
        """Count a request that has waited for so long."""
        self._series.child(self._held_seconds, Labels(model)).observe(seconds)

    def hold_refused(self, model: str, key: str, bound: str) -> None:
        """Count a request that found no room to wait; `bound` is one of key, all, bytes."""
        self._series.child(self._hold_refused, Labels(model, key=key, more=(bound,))).inc()

    def answered(self, model: str, revision: str, key: str, status: int, seconds: float) -> None:
        """Count a response whose first byte is sent `seconds` after its request arrived."""
        revision = self._series.revision(model, revision)
        self._series.child(self._requests, Labels(model, revision, key, (_name(status),))).inc()
        if status != 499:
            self._series.child(self._first_byte, Labels(model, revision, key)).observe(seconds)

    def refused(self, key: str, status: int) -> None:
        """Count a request that reached no model."""
        self._series.child(self._refused, Labels(key=key, more=(_name(status),))).inc()

    def used(self, model: str, revision: str, key: str, used: Used) -> None:
        """Count the tokens of a request at one server."""
        revision = self._series.revision(model, revision)
        for kind, count in used._asdict().items():
            if count:
                self._series.child(self._tokens, Labels(model, revision, key, (kind,))).inc(count)

    def retried(self, model: str, key: str) -> None:
        """Count another attempt."""
        self._series.child(self._retries, Labels(model, key=key)).inc()

    def broke(self, model: str, revision: str, key: str) -> None:
        """Count a response that broke off."""
        revision = self._series.revision(model, revision)
        self._series.child(self._broken, Labels(model, revision, key)).inc()

    def continued(self, model: str, revision: str, key: str) -> None:
        """Count a stream that a server of this revision goes on with."""
        revision = self._series.revision(model, revision)
        self._series.child(self._continued, Labels(model, revision, key)).inc()

    def handed_over(self, model: str, revision: str, key: str, *, taken: bool) -> None:
        """Count a stream that a server of this revision takes over, or keeps since another one did not take it."""
        revision = self._series.revision(model, revision)
        self._series.child(self._hand_overs, Labels(model, revision, key, ("yes" if taken else "no",))).inc()

    def render(self) -> bytes:
        """Return the exposition; it has the series of what is gone from the cluster once more."""
        text = generate_latest(self._registry)
        self._retain()
        return text

    def _retain(self) -> None:
        if self.present is not None:
            self._series.retain(*self.present())

    def _counter(self, name: str, what: str, labels: tuple[str, ...], *more: str) -> Children[Counter]:
        counter = Counter(name, what, (*labels, *more), registry=self._registry)
        return self._series.add(Children(counter, labels, 2))  # the second is the counter's `_created`


def _name(status: int) -> str:
    return str(status) if status in _PLAIN_STATUSES else f"{status // 100}xx"
