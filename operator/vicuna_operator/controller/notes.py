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
from vicuna_operator.planning.actions import Note

__all__ = ["Notes"]

logger = logging.getLogger(__name__)

_REPEAT_AFTER = 600.0
_MAX_MESSAGE = 1024


class Notes:
    """Posts Events; the same one about the same object at most every ten minutes. A failure is only logged."""

    def __init__(self, kube: Kube, reporting_instance: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._instance = reporting_instance
        self._clock = clock
        self._posted: dict[tuple[str, str, str, str], float] = {}

    async def post(self, body: Mapping[str, Any], notes: Sequence[Note]) -> None:
        """Post notes on the model whose object this is."""
        for note in notes:
            key = (str(body["metadata"]["uid"]), note.type, note.reason, note.message)
            now = self._clock()
            if now - self._posted.get(key, float("-inf")) < _REPEAT_AFTER:
                continue
            try:
                await self._kube.create(self._event(body, note), str(body["metadata"]["namespace"]))
            except KubeError as error:
                logger.warning("Cannot post the Event %s: %s", note.reason, error)
                continue
            self._posted = {k: at for k, at in self._posted.items() if now - at < _REPEAT_AFTER}
            self._posted[key] = now

    def _event(self, body: Mapping[str, Any], note: Note) -> dict[str, Any]:
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
            "type": note.type,
            "reason": note.reason,
            "message": printable(note.message)[:_MAX_MESSAGE],
            "source": {"component": MANAGED_BY},
            "reportingComponent": MANAGED_BY,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
