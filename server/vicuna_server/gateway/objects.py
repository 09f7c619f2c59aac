"""From Kubernetes objects to the gateway's own values; whatever is missing or odd is as good as not there."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from vicuna_server.gateway.catalogue import Endpoint, Model

__all__ = ["endpoints_of", "model_of", "secret_entries", "service_of"]

_SERVICE_LABEL = "kubernetes.io/service-name"
_PORT_NAME = "http"
_MOST_FORMER_UIDS, _MOST_OF_A_UID = 10, 64  # as the CRD has it


def model_of(body: Mapping[str, Any]) -> Model:
    """Read a VicunaModel (docs/using.md)."""
    metadata, serving = body["metadata"], _at(body, "spec", "serving")
    conditions = _at(body, "status").get("conditions") or ()
    ready: Mapping[str, Any] = next((each for each in conditions if each.get("type") == "Ready"), {})
    not_ready = ready.get("status") != "True"
    return Model(
        namespace=metadata["namespace"],
        name=metadata["name"],
        served_name=serving.get("servedName") or metadata["name"],
        created=_seconds(metadata.get("creationTimestamp")),
        reason=str(ready.get("reason") or "") if not_ready else "",
        message=str(ready.get("message") or "") if not_ready else "",
        max_stream_seconds=float(serving.get("maxStreamSeconds") or 600),
        uid=_uid(metadata),
        former_uids=_former_uids(body),
    )


def _uid(metadata: Mapping[str, Any]) -> str:
    return str(metadata.get("uid") or "")[:_MOST_OF_A_UID]


def _former_uids(body: Mapping[str, Any]) -> tuple[str, ...]:
    found = _at(body, "status").get("formerUIDs")
    return tuple(str(uid)[:_MOST_OF_A_UID] for uid in found[:_MOST_FORMER_UIDS]) if isinstance(found, list) else ()


def service_of(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return namespace and name of an EndpointSlice's Service; the name is empty where it has none."""
    metadata = body["metadata"]
    return metadata["namespace"], (metadata.get("labels") or {}).get(_SERVICE_LABEL, "")


def endpoints_of(body: Mapping[str, Any]) -> Iterator[Endpoint]:
    """Yield the endpoints of an EndpointSlice that are ready and not terminating.

    Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/ (v1 and v1beta1; an unset `ready`
    counts as ready, and of several addresses the first is meant).
    """
    port = next((each.get("port") for each in body.get("ports") or () if each.get("name") == _PORT_NAME), None)
    for each in body.get("endpoints") or ():
        host = _host(each)
        if port and host:
            yield Endpoint(f"http://{host}:{port}")


def _host(endpoint: Mapping[str, Any]) -> str | None:
    """Return the address of an endpoint that takes requests, as a URL has it; None where it takes none."""
    conditions, addresses = endpoint.get("conditions") or {}, endpoint.get("addresses") or ()
    ready = conditions.get("ready") is not False and conditions.get("terminating") is not True
    if not ready or not addresses:
        return None
    return f"[{addresses[0]}]" if ":" in addresses[0] else str(addresses[0])


def secret_entries(body: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the entries of a Secret."""
    entries = {}
    for name, value in (body.get("data") or {}).items():
        try:
            entries[name] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            entries[name] = b""
    return entries


def _at(body: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    found: Any = body
    for name in path:
        found = found.get(name) or {}
    return found if isinstance(found, Mapping) else {}


def _seconds(text: object) -> int:
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except ValueError:
        return 0
