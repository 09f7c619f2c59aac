"""The object in which one replica states its demand, and when it is to be written. Pure; docs/contract.md."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from vicuna_contract.demand import RENEW_SECONDS, Demand, demand_of, entries_of
from vicuna_contract.names import API_VERSION, LABEL_DEMAND, LABEL_GATEWAY, LABEL_MANAGED_BY, USAGE_KIND
from vicuna_server.gateway.options import NamespacedName

__all__ = ["DemandRecord", "demand_labels", "long_gone"]

_SECONDS_BETWEEN = 1.0
_KEPT = timedelta(days=1)
_HASH_DIGITS = 10
Body = dict[str, Any]


def demand_labels(gateway: str) -> dict[str, str]:
    """Return the labels by which the objects of a gateway's replicas are found."""
    return {LABEL_GATEWAY: gateway, LABEL_DEMAND: "true"}


def long_gone(objects: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[str]:
    """Yield the names of objects that have not been written for a day; a replica without demand does not write either.

    If such a replica is still there, it makes its object again with its next demand.
    """
    for body in objects:
        try:
            renewed = datetime.fromisoformat(str(body.get("renewedAt")))
        except ValueError:
            continue
        renewed = renewed if renewed.tzinfo else renewed.replace(tzinfo=UTC)
        if now - renewed > _KEPT:
            yield str(body["metadata"]["name"])


class DemandRecord:
    """What a replica has stated, and when it is to state more.

    Args:
        service: the gateway's own Service.
        pod: the replica's name.
        holder: the name of this process.

    Attributes:
        name: of the object.
        is_known: whether what is stored is known; else it has to be read before the next write.
    """

    def __init__(self, service: NamespacedName, pod: str, holder: str) -> None:
        digest = hashlib.sha256(pod.encode()).hexdigest()[:_HASH_DIGITS]
        self.name = f"{service.name}-demand-{digest}"
        self._service = service
        self._holder = holder
        self._version = ""
        self._written: tuple[Demand, ...] = ()
        self._at = float("-inf")
        self._number = 0
        self.is_known = False

    @property
    def exists(self) -> bool:
        """Whether there is an object, as far as is known."""
        return bool(self._version)

    def read(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Take what is stored; `objects` are those of all replicas."""
        mine = next((body for body in objects if body["metadata"]["name"] == self.name), None)
        self.is_known = True
        self._version = "" if mine is None else str(mine["metadata"].get("resourceVersion") or "")
        self._written = () if mine is None else tuple(sorted(demand_of(mine)))

    def states(self, stated: tuple[Demand, ...]) -> bool:
        """Whether this is what was written last."""
        return stated == self._written

    def due(self, stated: tuple[Demand, ...]) -> float:
        """Return when to write, on the clock of `wrote`; infinity: not before something changes."""
        if not self.states(stated):
            return self._at + _SECONDS_BETWEEN
        return self._at + RENEW_SECONDS if stated else float("inf")

    def body(self, stated: tuple[Demand, ...], now: datetime) -> Body:
        """Return the object to write."""
        self._number += 1
        labels = {"app.kubernetes.io/part-of": "vicuna-operator", LABEL_MANAGED_BY: "vicuna-gateway"}
        metadata: Body = {
            "name": self.name,
            "namespace": self._service.namespace,
            "labels": labels | demand_labels(self._service.name),
        }
        if self._version:
            metadata["resourceVersion"] = self._version
        return {
            "apiVersion": API_VERSION,
            "kind": USAGE_KIND,
            "metadata": metadata,
            "holder": self._holder,
            "write": self._number,
            "renewedAt": now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "demand": entries_of(stated),
        }

    def wrote(self, stated: tuple[Demand, ...], response: Mapping[str, Any], at: float) -> None:
        """Record a write that succeeded."""
        self._version = str(response["metadata"].get("resourceVersion") or "")
        self._written, self._at = stated, at
