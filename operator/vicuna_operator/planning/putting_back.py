"""What somebody changed in a managed object, and the patch that puts it back.

Only the fields that we state are compared. Whatever an API server or a cloud fills in (clusterIP, nodePort, annotations
of a load balancer) stays, and so do additions. An admission policy may rewrite a field with each write. So the object
records what was put back last, and the same change is put back once in ten minutes.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.conditions import format_time
from vicuna_operator.planning.lenient import fingerprint, moment
from vicuna_operator.planning.observed import ManagedObjectView

__all__ = ["differing", "put_back", "seconds_left"]

_PATIENCE = 600.0
_WHOLE = {"selector", "matchLabels"}  # an added member would exclude pods
_NEWER = {"unhealthyPodEvictionPolicy"}  # an API server before 1.26 drops it
_RIVALS = {"maxUnavailable": "minAvailable"}  # the API server accepts one of the two


def differing(found: ManagedObjectView, body: Mapping[str, Any]) -> Sequence[str]:
    """Name the fields and labels that are not as stated."""
    labels = (f"label {key}" for key in _labels(found, body))
    return [*labels, *(f"spec.{key}" for key in _fields(found, body))]


def seconds_left(found: ManagedObjectView, body: Mapping[str, Any], now: datetime) -> float:
    """Return for how many seconds a change is left alone, as it came back after it was put back last."""
    at, _, known = found.meta.annotations.get(c.ANNOTATION_PUT_BACK, "").partition(" ")
    since = moment(at)
    if since is None or known != _state(found, body):
        return 0.0
    passed = (now - since).total_seconds()
    return _PATIENCE - passed if 0 <= passed < _PATIENCE else 0.0


def put_back(found: ManagedObjectView, body: Mapping[str, Any], now: datetime) -> Mapping[str, Any]:
    """Return the merge-patch that makes an object as stated again."""
    spec = {key: _patched(found.spec.get(key), body["spec"][key], key) for key in _fields(found, body)}
    rivals = {rival: None for key, rival in _RIVALS.items() if key in spec and rival in found.spec}
    mark = {c.ANNOTATION_PUT_BACK: f"{format_time(now)} {_state(found, body)}"}
    labels = {key: body["metadata"]["labels"][key] for key in _labels(found, body)}
    metadata: dict[str, Any] = {"annotations": mark} | ({"labels": labels} if labels else {})
    return {"metadata": metadata} | ({"spec": {**spec, **rivals}} if spec else {})


def _labels(found: ManagedObjectView, body: Mapping[str, Any]) -> Iterator[str]:
    wanted: Mapping[str, str] = body["metadata"]["labels"]
    yield from (key for key in wanted if found.meta.labels.get(key) != wanted[key])


def _fields(found: ManagedObjectView, body: Mapping[str, Any]) -> Iterator[str]:
    for key, value in body["spec"].items():
        unknown = key in _NEWER and key not in found.spec
        if not unknown and not _agrees(found.spec.get(key), value, key):
            yield key


def _state(found: ManagedObjectView, body: Mapping[str, Any]) -> str:
    """Return a fingerprint of the values that differ."""
    labels = {key: found.meta.labels.get(key) for key in _labels(found, body)}
    spec = {key: found.spec.get(key) for key in _fields(found, body)}
    return fingerprint([labels, spec])


def _agrees(found: object, wanted: object, key: str) -> bool:
    """Tell whether everything that is stated is there; empty objects and lists may be absent."""
    if isinstance(wanted, Mapping):
        members = found if isinstance(found, Mapping) else {}
        extra = key in _WHOLE and not members.keys() <= wanted.keys()
        return not extra and all(_agrees(members.get(name), wanted[name], name) for name in wanted)
    if isinstance(wanted, list):
        items = found if isinstance(found, list) else []
        return len(items) == len(wanted) and all(map(_agrees, items, wanted, [key] * len(wanted)))
    return found == wanted


def _patched(found: object, wanted: Any, key: str) -> Any:
    """Return the part of a merge-patch that makes a member as stated."""
    if isinstance(wanted, Mapping):
        members = found if isinstance(found, Mapping) else {}
        gone = dict.fromkeys(members.keys() - wanted.keys() if key in _WHOLE else ())
        return gone | {name: _patched(members.get(name), value, name) for name, value in wanted.items()}
    if isinstance(wanted, list) and key == "ports" and isinstance(found, list):
        return [_port(item, found) for item in wanted]
    return wanted


def _port(wanted: Mapping[str, Any], found: Sequence[object]) -> Mapping[str, Any]:
    """Return a Service's port as stated, with what the cluster assigned to it, such as its nodePort."""
    same = (item for item in found if isinstance(item, Mapping) and item.get("port") == wanted.get("port"))
    return {**next(same, {}), **wanted}
