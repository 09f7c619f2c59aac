"""Prometheus metrics of one server, in a registry of its own."""

import re
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.engine import Engine
from vicuna_server.engine.separate import away
from vicuna_server.protocol.counts import Used

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MAX_FIELDS = 50
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)


class Metrics:
    """Counts requests, and reads the engine's counters at each scrape."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine, lifecycle))
        self._requests = Counter(
            "vicuna_http_requests", "Responses begun", ("route", "status"), registry=self._registry
        )
        self._field_names: set[str] = set()
        self._unknown = Counter(
            "vicuna_unknown_fields", "Unknown request fields, which were ignored", ("field",), registry=self._registry
        )
        self._used = Counter(
            "vicuna_usage_tokens",
            "Tokens of requests that have ended: each prompt that was begun, once, and all generated tokens",
            ("kind",),
            registry=self._registry,
        )
        self._first_token = Histogram(
            "vicuna_time_to_first_token_seconds",
            "From a generation's acceptance, with the time in the queue, to its first token",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._per_token = Histogram(
            "vicuna_time_per_output_token_seconds",
            "Mean time between the tokens of a completion, once per completion",
            buckets=_TOKEN_SECONDS,
            registry=self._registry,
        )

    def on_unknown_fields(self, fields: Iterable[str]) -> None:
        """Count unknown fields of a request: the first 50 plain names by name, all others as `other`."""
        for field in fields:
            if field not in self._field_names and len(self._field_names) < _MAX_FIELDS and _FIELD.fullmatch(field):
                self._field_names.add(field)
            self._unknown.labels(field if field in self._field_names else "other").inc()

    def on_response(self, route: str, status: int) -> None:
        """Count a response whose head was sent."""
        self._requests.labels(route, str(status)).inc()

    def on_usage(self, used: Used) -> None:
        """Count the tokens of a request that is over."""
        for kind, tokens in used._asdict().items():
            self._used.labels(kind).inc(tokens)

    def on_first_token(self, seconds: float) -> None:
        """Record the seconds from a generation's acceptance to its first token."""
        self._first_token.observe(seconds)

    def on_completion(self, seconds: float, tokens: int) -> None:
        """Record a completion: the seconds that its tokens after the first took, and the number of those tokens."""
        if tokens > 0:
            self._per_token.observe(seconds / tokens)

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._lifecycle = lifecycle

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats
        for name, text, value in (
            ("vicuna_requests_running", "Generations in the batch", stats.running),
            ("vicuna_requests_waiting", "Generations in the queue", stats.waiting),
            ("vicuna_kv_cache_tokens", "Tokens in the KV cache", stats.kv_tokens),
            ("vicuna_kv_cache_capacity_tokens", "Capacity of the KV cache in tokens", stats.kv_capacity),
            ("vicuna_ready", "1 while /readyz returns 200", int(self._lifecycle.ready and not away(self._engine))),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        for name, text, value in (
            ("vicuna_prompt_tokens", "Prompt tokens, with those from the prefix cache", stats.prompt_tokens),
            ("vicuna_prefix_cache_hit_tokens", "Prompt tokens from the prefix cache", stats.prefix_hit_tokens),
            ("vicuna_generated_tokens", "Tokens generated", stats.generated_tokens),
            ("vicuna_generations_finished", "Completions that finished", stats.finished),
            ("vicuna_generations_cancelled", "Completions whose client closed the connection", stats.cancelled),
            ("vicuna_generations_failed", "Completions that failed in the model", stats.failed),
            ("vicuna_generations_preempted", "Generations put back into the queue to free KV cache", stats.preempted),
        ):
            yield CounterMetricFamily(name, text, value=value)
