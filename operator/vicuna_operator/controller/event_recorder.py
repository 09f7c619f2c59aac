"""Kubernetes Events on a VicunaModel: what happened, for `kubectl describe`."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vicuna_contract.names import API_VERSION, KIND, MANAGED_BY
from vicuna_contract.printable import printable
from vicuna_operator.api.conditions import format_time
from vicuna_operator.errors import KubeError
from vicuna_operator.kube.port import Kube
from vicuna_operator.planning.actions import NewEvent

__all__ = ["EventRecorder"]

logger = logging.getLogger(__name__)

_REPEAT_AFTER = 600.0
_MAX_MESSAGE = 1024


class EventRecorder:
    """Posts Events; the same one about the same object at most every ten minutes. A failure is only logged."""

    def __init__(self, kube: Kube, reporting_instance: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._instance = reporting_instance
        self._clock = clock
        self._posted: dict[tuple[str, str, str, str], float] = {}

    async def record(self, body: Mapping[str, Any], new_events: Sequence[NewEvent]) -> None:
        """Post Events on the model whose object this is."""
        for event in new_events:
            key = (str(body["metadata"]["uid"]), event.type, event.reason, event.message)
            now = self._clock()
            if now - self._posted.get(key, float("-inf")) < _REPEAT_AFTER:
                continue
            try:
                await self._kube.create(self._event(body, event), str(body["metadata"]["namespace"]))
            except KubeError as error:
                logger.warning("Cannot post the Event %s: %s", event.reason, error)
                continue
            self._posted = {k: at for k, at in self._posted.items() if now - at < _REPEAT_AFTER}
            self._posted[key] = now

    def _event(self, body: Mapping[str, Any], event: NewEvent) -> dict[str, Any]:
        metadata = body["metadata"]
        now = format_time(datetime.now(UTC))
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": event.type,
            "reason": event.reason,
            "message": printable(event.message)[:_MAX_MESSAGE],
            "source": {"component": MANAGED_BY},
            "reportingComponent": MANAGED_BY,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
