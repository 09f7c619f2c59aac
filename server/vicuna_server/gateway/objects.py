"""Reads Kubernetes objects; a field that is missing or has a wrong type is ignored.

No function raises, whatever JSON it gets: one broken object must not affect the others.
"""

import base64
import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.protocol.responses.ids import replica_tag

__all__ = ["endpoints_of", "identity_of", "managed", "model_of", "of_pods", "secret_entries", "service_of"]

_SERVICE_LABEL = "kubernetes.io/service-name"
_MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
_SLICE_CONTROLLER = "endpointslice-controller.k8s.io"
_PORT_NAME = "http"
_REVISION = re.compile("[0-9a-f]{8}")
_STREAM_SECONDS = 600.0
_MOST_AT_ONCE = 1024
_AT_ONCE = 32
_MOST_FORMER_UIDS, _MOST_OF_A_UID = 10, 64  # as the CRD has it


def identity_of(body: object) -> tuple[str, str] | None:
    """Return namespace and name of an object; None where it has none."""
    metadata = _at(body, "metadata")
    namespace, name = _text(metadata.get("namespace")), _text(metadata.get("name"))
    return (namespace, name) if namespace and name else None


def model_of(body: object) -> Model | None:
    """Read a VicunaModel (docs/using.md); None where it has no name."""
    identity = identity_of(body)
    if identity is None:
        return None
    serving, ready = _at(body, "spec", "serving"), _condition(body, "Ready")
    not_ready = ready.get("status") != "True"
    return Model(
        namespace=identity[0],
        name=identity[1],
        served_name=_text(serving.get("servedName")) or identity[1],
        created=_moment(_at(body, "metadata").get("creationTimestamp")),
        reason=_text(ready.get("reason")) if not_ready else "",
        message=_text(ready.get("message")) if not_ready else "",
        max_stream_seconds=_seconds(serving.get("maxStreamSeconds")) or _STREAM_SECONDS,
        hand_over_seconds=_seconds(_at(serving, "rollout").get("handOverSeconds")) or None,
        uid=_text(_at(body, "metadata").get("uid"))[:_MOST_OF_A_UID],
        former_uids=_former_uids(body),
        autoscaled=_is_autoscaled(serving),
        may_come=_may_come(body),
        at_once=_count(_at(serving, "autoscaling").get("targetRequests"))
        or _count(serving.get("maxConcurrency"))
        or _AT_ONCE,
    )


def _is_autoscaled(serving: Mapping[str, Any]) -> bool:
    return isinstance(serving.get("autoscaling"), Mapping)


def _may_come(body: object) -> bool:
    """Whether a server of a VicunaModel may become ready, though none is now."""
    serving = _at(body, "spec", "serving")
    wanted = serving.get("replicas") != 0 or _is_autoscaled(serving)
    ends = _at(body, "spec").get("suspend") is True or "deletionTimestamp" in _at(body, "metadata")
    # An earlier revision may sleep behind a new one that failed.
    stuck = _is_true(body, "Stalled") and not _is_true(body, "Available")
    return wanted and not ends and not stuck


def _former_uids(body: object) -> tuple[str, ...]:
    found = _at(body, "status").get("formerUIDs")
    return tuple(_text(uid)[:_MOST_OF_A_UID] for uid in found[:_MOST_FORMER_UIDS]) if isinstance(found, list) else ()


def service_of(body: object) -> tuple[str, str]:
    """Return namespace and name of an EndpointSlice's Service; the name is empty where it has none."""
    metadata = _at(body, "metadata")
    return _text(metadata.get("namespace")), _text(_at(metadata, "labels").get(_SERVICE_LABEL))


def managed(body: object) -> bool:
    """Whether an EndpointSlice is managed by Kubernetes' own controller, which reverts what others write to it.

    Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#management (since 1.17).
    """
    return _at(body, "metadata", "labels").get(_MANAGED_BY_LABEL) == _SLICE_CONTROLLER


def endpoints_of(body: object, *, pods_of: str | None = None) -> Iterator[Endpoint]:
    """Yield the endpoints of an EndpointSlice that are ready and not terminating.

    Args:
        body: v1 or v1beta1; an unset `ready` counts as ready, and of several addresses the first is used.
        pods_of: only pods of this model in the slice's namespace; None: all endpoints.

    Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
    """
    port = _port(body)
    if port is None:
        return
    namespace = _at(body, "metadata").get("namespace")
    for each in _each(body, "endpoints"):
        host = _host(each)
        if host and (pods_of is None or _is_pod(each, namespace, pods_of)):
            replica = "" if pods_of is None else _replica(each)
            yield Endpoint(f"http://{host}:{port}", _revision(each, pods_of or ""), replica)


def _port(body: object) -> int | None:
    ports = (each.get("port") for each in _each(body, "ports") if each.get("name") == _PORT_NAME)
    port = next(ports, None)
    return port if type(port) is int and 0 < port < 2**16 else None


def _replica(endpoint: object) -> str:
    """Return the tag in ids of responses that the endpoint's pod keeps; empty: it does not name its pod."""
    pod = _text(_at(endpoint, "targetRef").get("name"))
    return replica_tag(pod) if pod else ""


def of_pods(body: object) -> Iterator[Endpoint]:
    """Yield the endpoints of an EndpointSlice that are its model's pods; none if Kubernetes does not manage it."""
    _, model = service_of(body)
    if model and managed(body):
        yield from endpoints_of(body, pods_of=model)


def secret_entries(body: object) -> dict[str, bytes]:
    """Return the entries of a Secret."""
    entries = {}
    for name, value in _at(body, "data").items():
        try:
            entries[str(name)] = base64.b64decode(value, validate=True)
        except (TypeError, ValueError):
            entries[str(name)] = b""
    return entries


def _is_pod(endpoint: Mapping[str, Any], namespace: object, model: str) -> bool:
    """Whether an endpoint is a pod of a revision's Deployment, `<model>-<revision>`."""
    target = _at(endpoint, "targetRef")
    ours = target.get("kind") == "Pod" and target.get("namespace") == namespace
    return ours and _text(target.get("name")).startswith(f"{model}-")


def _revision(endpoint: Mapping[str, Any], model: str) -> str:
    """Return the revision in a pod's name; a slice does not have the labels of pods."""
    name = _text(_at(endpoint, "targetRef").get("name"))
    revision, _, _ = name.removeprefix(f"{model}-").partition("-")
    return revision if _REVISION.fullmatch(revision) else ""


def _host(endpoint: Mapping[str, Any]) -> str | None:
    """Return the address of an endpoint that takes requests, in the form of URLs; None if it takes none."""
    conditions, addresses = _at(endpoint, "conditions"), endpoint.get("addresses")
    ready = conditions.get("ready") is not False and conditions.get("terminating") is not True
    if not ready or not isinstance(addresses, list) or not addresses:
        return None
    try:
        address = ipaddress.ip_address(_text(addresses[0]))
    except ValueError:
        return None
    if "%" in str(address):  # an address with a zone is valid on another machine only
        return None
    return f"[{address}]" if address.version == 6 else str(address)


def _condition(body: object, kind: str) -> Mapping[str, Any]:
    """Return a condition of a VicunaModel; empty where there is none."""
    found = (each for each in _each(_at(body, "status"), "conditions") if each.get("type") == kind)
    return next(found, {})


def _at(body: object, *path: str) -> Mapping[str, Any]:
    found: object = body
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _each(body: object, name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a list."""
    listed = body.get(name) if isinstance(body, Mapping) else None
    return (each for each in listed if isinstance(each, Mapping)) if isinstance(listed, list) else iter(())


def _text(value: object) -> str:
    """Return a text that is valid UTF-8; empty if the value is not a text."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _is_true(body: object, kind: str) -> bool:
    return _condition(body, kind).get("status") == "True"


def _count(value: object) -> int:
    """Return a count as the CRD has it; 0 for what is none."""
    return value if type(value) is int and 0 < value <= _MOST_AT_ONCE else 0


def _seconds(value: object) -> float:
    """Return a positive number of seconds; 0 for what is none."""
    try:
        seconds = float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        seconds = 0.0
    return seconds if seconds > 0 and isfinite(seconds) else 0.0


def _moment(text: object) -> int:
    """Return seconds since the epoch."""
    try:
        return int(datetime.fromisoformat(_text(text)).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0
