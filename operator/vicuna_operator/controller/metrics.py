"""The operator's own metrics, for Prometheus: what it does, and the states of the models.

Merges and rollouts are counted by what a status write changes, so that nothing has to be remembered. Models by phase
are counted at each scrape.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vicuna_operator.api.conditions import ConditionType, Phase, find_condition, parse_time
from vicuna_operator.controller.snapshot import Key, Snapshot

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_MERGE_SECONDS = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


class Metrics:
    """All metrics of one process, on a registry of its own."""

    def __init__(self, snapshot: Snapshot) -> None:
        registry = self._registry = CollectorRegistry()
        self._passes = Counter("vicuna_operator_reconciles", "Passes over models.", ["result"], registry=registry)
        self._pass_seconds = Histogram(
            "vicuna_operator_reconcile_seconds", "Time of a pass.", buckets=_SECONDS, registry=registry
        )
        self._requests = Counter(
            "vicuna_operator_api_requests", "Requests to the Kubernetes API.", ["method", "code"], registry=registry
        )
        self._request_seconds = Histogram(
            "vicuna_operator_api_request_seconds", "Time of a request.", ["method"], buckets=_SECONDS, registry=registry
        )
        self._merges = Counter("vicuna_operator_merges", "Merges that ended.", ["outcome"], registry=registry)
        self._merge_seconds = Histogram(
            "vicuna_operator_merge_seconds",
            "Time from the wish for weights to their artifact.",
            buckets=_MERGE_SECONDS,
            registry=registry,
        )
        self._merge_bytes = Counter("vicuna_operator_merge_bytes", "Bytes merged.", registry=registry)
        self._rollouts = Counter("vicuna_operator_rollouts", "Rollouts that ended.", ["outcome"], registry=registry)
        self.leading = Gauge("vicuna_operator_leading", "1 while this replica holds the Lease.", registry=registry)
        self.left_alone = Gauge(
            "vicuna_operator_models_left_alone", "Models that another operator works on.", registry=registry
        )
        self.namespaces_refused = Gauge(
            "vicuna_operator_namespaces_refused", "Watched namespaces that may not be read.", registry=registry
        )
        for outcome in ("Succeeded", "Failed"):
            self._merges.labels(outcome)
        for outcome in ("Succeeded", "RolledBack", "Superseded"):
            self._rollouts.labels(outcome)
        for result in ("success", "error"):
            self._passes.labels(result)
        self._models = _Models(snapshot)
        registry.register(self._models)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)

    def set_demands(self, totals: Callable[[], Mapping[Key, int]]) -> None:
        """Say where the demand for models with autoscaling is read at each scrape."""
        self._models.demands = totals

    def record_pass(self, seconds: float, *, failed: bool) -> None:
        """Count a pass over a model."""
        self._passes.labels("error" if failed else "success").inc()
        self._pass_seconds.observe(seconds)

    def record_request(self, method: str, status: int | None, seconds: float) -> None:
        """Count a request; status None: there was no answer."""
        self._requests.labels(method, str(status or "none")).inc()
        self._request_seconds.labels(method).observe(seconds)

    def record_status(self, old: Mapping[str, Any], new: Mapping[str, Any], now: datetime) -> None:
        """Count the merges and rollouts that ended between two statuses of a model."""
        self._rollouts_ended(old, new)
        self._merge_ended(old, new, now)

    def _rollouts_ended(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        before = {_identity(entry) for entry in old.get("history") or ()}
        for entry in new.get("history") or ():
            if _identity(entry) not in before:
                self._rollouts.labels(str(entry.get("outcome"))).inc()

    def _merge_ended(self, old: Mapping[str, Any], new: Mapping[str, Any], now: datetime) -> None:
        was, is_now = (find_condition(status, ConditionType.WEIGHTS_READY) for status in (old, new))
        if was.get("status") == "False" and is_now.get("status") == "True":
            self._merges.labels("Succeeded").inc()
            self._merge_bytes.inc(int((new.get("merge") or {}).get("bytesTotal", 0)))
            if since := was.get("lastTransitionTime"):
                self._merge_seconds.observe((now - parse_time(str(since))).total_seconds())
        last = new.get("lastFailure") or {}
        if last and last != old.get("lastFailure") and "-merge-" in str(last.get("pod", "")):
            self._merges.labels("Failed").inc()


class _Models(Collector):
    """Counts models by phase, and stalled ones by reason; tells demand and replicas of those with autoscaling."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.demands: Callable[[], Mapping[Key, int]] = dict

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._counted()
        yield from self._scaled()

    def _scaled(self) -> Iterator[GaugeMetricFamily]:
        labels, demands = ["namespace", "name"], self.demands()
        desired = GaugeMetricFamily(
            "vicuna_operator_desired_replicas", "Replicas that autoscaling wants.", labels=labels
        )
        requests = GaugeMetricFamily(
            "vicuna_operator_demand_requests", "Requests under way and held at the gateways.", labels=labels
        )
        for key in sorted(self._snapshot.models):
            scaling = ((self._snapshot.model(key) or {}).get("status") or {}).get("autoscaling") or {}
            if "desiredReplicas" in scaling:
                desired.add_metric(key, scaling["desiredReplicas"])
            if key in demands:
                requests.add_metric(key, demands[key])
        yield from (desired, requests)

    def _counted(self) -> Iterator[GaugeMetricFamily]:
        phases: Tally[tuple[str, str]] = Tally()
        stalled: Tally[tuple[str, str]] = Tally()
        for key in self._snapshot.models:
            status = (self._snapshot.model(key) or {}).get("status") or {}
            phases[key[0], str(status.get("phase") or Phase.PENDING)] += 1
            if find_condition(status, ConditionType.STALLED).get("status") == "True":
                stalled[key[0], str(status.get("reason", ""))] += 1
        by_phase = GaugeMetricFamily("vicuna_operator_models", "Models by phase.", labels=["namespace", "phase"])
        by_reason = GaugeMetricFamily(
            "vicuna_operator_models_stalled", "Models that wait for somebody.", labels=["namespace", "reason"]
        )
        for family, tally in ((by_phase, phases), (by_reason, stalled)):
            for labels, number in sorted(tally.items()):
                family.add_metric(labels, number)
            yield family


def _identity(entry: Mapping[str, Any]) -> tuple[object, ...]:
    return (entry.get("revision"), entry.get("outcome"), entry.get("since"))
