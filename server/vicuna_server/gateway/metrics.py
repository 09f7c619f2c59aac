"""Prometheus metrics of the gateway, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """What happened to requests, by model id, revision and name of the key."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "vicuna_gateway_requests",
            "Answers begun; status 499: the client left before",
            ("model", "revision", "key", "status"),
            registry=self._registry,
        )
        self._tokens = Counter(
            "vicuna_gateway_tokens",
            "Tokens that answers reported as their usage",
            ("model", "revision", "key", "kind"),
            registry=self._registry,
        )
        self._refused = Counter(
            "vicuna_gateway_refused",
            "Requests refused before a model was found; key: empty where none was accepted",
            ("key", "status"),
            registry=self._registry,
        )
        self._first_byte = Histogram(
            "vicuna_gateway_time_to_first_byte_seconds",
            "From a request's arrival to the first byte of its answer",
            ("model", "revision", "key"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._retries = Counter(
            "vicuna_gateway_retries",
            "Requests sent again to another endpoint",
            ("model", "key"),
            registry=self._registry,
        )
        self._broken = Counter(
            "vicuna_gateway_streams_broken",
            "Streams whose server was lost after the first byte",
            ("model", "revision", "key"),
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "vicuna_gateway_requests_in_flight", "Requests under way", ("model", "key"), registry=self._registry
        )

    def answered(self, model: str, revision: str, key: str, status: int, seconds: float) -> None:
        """Count an answer whose first byte is sent `seconds` after its request came."""
        self._requests.labels(model, revision, key, str(status)).inc()
        if status != 499:
            self._first_byte.labels(model, revision, key).observe(seconds)

    def refused(self, key: str, status: int) -> None:
        """Count a request that reached no model."""
        self._refused.labels(key, str(status)).inc()

    def used(self, model: str, revision: str, key: str, usage: dict[str, object]) -> None:
        """Count the tokens of an OpenAI `usage` object."""
        for kind in ("prompt", "completion"):
            count = usage.get(f"{kind}_tokens")
            if isinstance(count, int) and count > 0:
                self._tokens.labels(model, revision, key, kind).inc(count)

    def retried(self, model: str, key: str) -> None:
        """Count another try."""
        self._retries.labels(model, key).inc()

    def broke(self, model: str, revision: str, key: str) -> None:
        """Count a stream that broke off."""
        self._broken.labels(model, revision, key).inc()

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self._registry)
