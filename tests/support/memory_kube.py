"""An API server in memory: the Kube port on a dict, as strict as the real one where the operator relies on it.

It stamps uid, resourceVersion, generation and creationTimestamp, ignores status outside the status subresource,
checks preconditions, collects orphans, and can be told to fail, to crash the caller, or to let deleted objects linger.
"""

import itertools
import json
import marshal
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

from vicuna_operator.errors import AlreadyExistsError, ConflictError, InvalidError, NotFoundError
from vicuna_operator.planning.actions import Ref

Body = dict[str, Any]
Place = tuple[str, str, str, str]  # apiVersion, kind, namespace, name
View = TypeVar("View")

WRITES = frozenset({"create", "apply", "patch", "delete"})
_SERVER_FIELDS = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "namespace",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_HAS_STATUS = frozenset({"VicunaModel", "Job", "Deployment", "Pod", "PersistentVolumeClaim", "Service"})
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class Crashed(BaseException):
    """The operator was killed right after a call had reached the API server."""


@dataclass(frozen=True)
class Call:
    verb: str
    kind: str
    name: str
    subresource: str | None = None
    body: Mapping[str, Any] | None = None


@dataclass
class _Fault:
    error: Exception
    verb: str | None
    kind: str | None
    times: int


@dataclass
class MemoryKube:
    """Implements `vicuna_operator.kube.port.Kube`.

    `lingers` names kinds that stay, with a deletionTimestamp, until `finish_deletion` (pods that drain).
    `crash_after` counts down over writes: the one that reaches zero is done and then raises Crashed.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    groups: set[str] = field(
        default_factory=lambda: {"v1", "apps/v1", "batch/v1", "coordination.k8s.io/v1", "vicuna.dev/v1alpha1"}
    )
    lingers: set[str] = field(default_factory=set)
    pod_logs: dict[tuple[str, str, str], str] = field(default_factory=dict)
    crash_after: int | None = None
    warnings: dict[str, list[str]] = field(default_factory=dict)  # by kind: what a dry run is answered with
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._objects: dict[Place, Body] = {}  # never changed in place
        self._frozen: dict[Place, bytes] = {}  # the same, to copy from: much faster than copy.deepcopy
        self._applied: dict[Place, Body] = {}
        self._faults: list[_Fault] = []
        self.version = 0  # the newest resourceVersion: it grows with every change
        self._uids = itertools.count(1)
        self._listeners: list[Callable[[str, Body], None]] = []

    # what tests use

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.verb in WRITES]

    def fail(self, error: Exception, *, verb: str | None = None, kind: str | None = None, times: int = 1) -> None:
        """Let the next `times` calls of this verb and kind (None: any) fail before they have any effect."""
        self._faults.append(_Fault(error, verb, kind, times))

    def listen(self, listener: Callable[[str, Body], None]) -> None:
        """Be told (ADDED | MODIFIED | DELETED, object) of every change."""
        self._listeners.append(listener)

    @property
    def faults_left(self) -> int:
        """How many calls are still to fail."""
        return sum(fault.times for fault in self._faults)

    def heal(self) -> None:
        """Let no call fail or crash any more."""
        self._faults.clear()
        self.crash_after = None

    def objects(self, kind: str | None = None, namespace: str | None = None) -> list[Body]:
        return [self._copy(place) for place in self._sorted(kind, namespace)]

    def views(self, kind: str, namespace: str, read: Callable[[Body], View]) -> list[View]:
        """What `read` makes of each object: made once of each version, as the operator's indices do."""
        return [_view(read, self._frozen[place]) for place in self._sorted(kind, namespace)]

    def _sorted(self, kind: str | None, namespace: str | None) -> list[Place]:
        return sorted(place for place in self._objects if kind in (None, place[1]) and namespace in (None, place[2]))

    def find(self, kind: str, name: str, namespace: str = "default") -> Body | None:
        return next((self._copy(place) for place in self._places(kind, name, namespace)), None)

    def put(self, body: Mapping[str, Any], namespace: str = "default") -> Body:
        """Make or replace an object as it is, status included: what users, controllers and kubelets do."""
        new = _received(body)
        place = self._place(new, namespace)
        old = self._objects.get(place)
        if old is None:
            return self._store("ADDED", place, self._stamp(new, namespace))
        for name in _SERVER_FIELDS:
            if name in old["metadata"]:
                new["metadata"][name] = old["metadata"][name]
        return self._update(place, old, new)

    def restore(self, body: Mapping[str, Any], namespace: str = "default") -> Body:
        """Put an object back as a backup holds it, its uid and its times included."""
        new = self._stamp(_received(body), namespace)
        new["metadata"] |= {key: value for key, value in body["metadata"].items() if key in _SERVER_FIELDS}
        return self._store("ADDED", self._place(new, namespace), new)

    def change(self, kind: str, name: str, patch: Mapping[str, Any], namespace: str = "default") -> Body:
        """Merge-patch an object, status included: what users, controllers and kubelets do."""
        (place,) = self._places(kind, name, namespace)
        return self._update(place, self._objects[place], merge_patch(self._objects[place], _received(patch)))

    def start_deletion(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete an object as users and controllers do: what lingers stays until `finish_deletion`."""
        for place in self._places(kind, name, namespace):
            self._delete(place)

    def remove(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete an object at once, whatever lingers."""
        for place in self._places(kind, name, namespace):
            self._drop(place)

    def finish_deletion(self, may_go: Callable[[Body], bool] = lambda _: True) -> int:
        """Let go of everything that lingers, or of what may; return how many objects went."""
        lingering = [(place, body) for place, body in self._objects.items() if "deletionTimestamp" in body["metadata"]]
        leaving = [place for place, body in lingering if may_go(body)]
        for place in leaving:
            if place in self._objects:
                self._drop(place)
        return len(leaving)

    # the port

    async def get(self, ref: Ref, namespace: str) -> Body | None:
        self._begin(Call("get", ref.kind, ref.name))
        place = (ref.api_version, ref.kind, namespace, ref.name)
        return self._copy(place) if place in self._objects else None

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int | None = None,
    ) -> list[Body]:
        self._begin(Call("list", kind, ""))
        found = [
            body
            for body in self.objects(kind, namespace)
            if body["apiVersion"] == api_version
            and labels_match(body["metadata"].get("labels") or {}, label_selector)
            and _fields_match(body, field_selector)
        ]
        return found[:limit]

    async def create(self, body: Mapping[str, Any], namespace: str) -> Body:
        new = _received(body)
        metadata = new.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._uids):05d}"
        place = self._place(new, namespace)
        self._begin(Call("create", place[1], place[3], body=_received(new)))
        if place in self._objects:
            raise AlreadyExistsError(f"{place[1]} {place[3]!r} already exists", 409)
        if "resourceVersion" in metadata:
            raise InvalidError("resourceVersion should not be set on objects to be created", 422)
        if place[1] in _HAS_STATUS:
            new.pop("status", None)
        stored = self._store("ADDED", place, self._stamp(new, namespace))
        self._end()
        return stored

    async def dry_run(self, body: Mapping[str, Any], namespace: str) -> Sequence[str]:
        new = _received(body)
        place = self._place(new, namespace)
        self._begin(Call("dry-run", place[1], place[3], body=new))
        if place in self._objects:
            raise AlreadyExistsError(f"{place[1]} {place[3]!r} already exists", 409)
        return self.warnings.get(place[1], [])

    async def apply(self, body: Mapping[str, Any], namespace: str) -> Body:
        wanted = _received(body)
        place = self._place(wanted, namespace)
        self._begin(Call("apply", place[1], place[3], body=_received(wanted)))
        if place[1] in _HAS_STATUS:
            wanted.pop("status", None)
        old = self._objects.get(place)
        if old is None:
            if "uid" in wanted["metadata"]:
                raise ConflictError(f"{place[1]} {place[3]!r} has no such uid", 409)
            stored = self._store("ADDED", place, self._stamp(wanted, namespace))
        else:
            self._check_preconditions(place, old, wanted["metadata"])
            dropped = _removed(self._applied.get(place, {}), wanted)
            stored = self._update(place, old, merge_patch(merge_patch(old, dropped), wanted))
        self._applied[place] = _received(body)
        self._end()
        return stored

    async def patch(self, ref: Ref, namespace: str, body: Mapping[str, Any], *, subresource: str | None = None) -> Body:
        change = _received(body)
        self._begin(Call("patch", ref.kind, ref.name, subresource, _received(change)))
        place = (ref.api_version, ref.kind, namespace, ref.name)
        old = self._objects.get(place)
        if old is None:
            raise NotFoundError(f"{ref.kind} {ref.name!r} not found", 404)
        self._check_preconditions(place, old, body.get("metadata") or {})
        if subresource not in (None, "status"):
            raise InvalidError(f"no subresource {subresource!r} here", 404)
        if subresource == "status":
            change = {"status": change.get("status", {})}
        elif ref.kind in _HAS_STATUS:
            change.pop("status", None)
        stored = self._update(place, old, merge_patch(old, change))
        self._end()
        return stored

    async def delete(self, ref: Ref, namespace: str, *, uid: str | None = None) -> None:
        self._begin(Call("delete", ref.kind, ref.name))
        place = (ref.api_version, ref.kind, namespace, ref.name)
        old = self._objects.get(place)
        if old is None:
            raise NotFoundError(f"{ref.kind} {ref.name!r} not found", 404)
        if uid is not None:
            self._check_preconditions(place, old, {"uid": uid})
        self._delete(place)
        self._end()

    async def logs(
        self, namespace: str, pod: str, *, container: str, tail_lines: int, limit_bytes: int, previous: bool = False
    ) -> str:
        self._begin(Call("logs", "Pod", f"{pod} --previous" if previous else pod))
        if (namespace, pod, container) not in self.pod_logs:
            raise NotFoundError(f"container {container!r} of pod {pod!r} not found", 404)
        return "\n".join(self.pod_logs[namespace, pod, container].splitlines()[-tail_lines:])[:limit_bytes]

    async def offers(self, group_version: str) -> bool:
        self._begin(Call("offers", group_version, ""))
        return group_version in self.groups

    # inside

    def _begin(self, call: Call) -> None:
        self.calls.append(call)
        for fault in self._faults:
            if fault.times > 0 and fault.verb in (None, call.verb) and fault.kind in (None, call.kind):
                fault.times -= 1
                raise fault.error

    def _end(self) -> None:
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after <= 0:
                self.crash_after = None
                raise Crashed

    def _place(self, body: Mapping[str, Any], namespace: str) -> Place:
        metadata = body["metadata"]
        if metadata.get("namespace", namespace) != namespace:
            raise InvalidError("the namespace of the object does not match the namespace of the request", 400)
        name = str(metadata.get("name", ""))
        if not _NAME.fullmatch(name) or len(name) > 253:
            raise InvalidError(f"metadata.name: Invalid value: {name!r}", 422)
        return str(body["apiVersion"]), str(body["kind"]), namespace, name

    def _places(self, kind: str, name: str, namespace: str) -> Sequence[Place]:
        return [place for place in self._objects if place[1:] == (kind, namespace, name)]

    def _next_version(self) -> str:
        self.version += 1
        return str(self.version)

    def _check_preconditions(self, place: Place, old: Body, metadata: Mapping[str, Any]) -> None:
        for name in ("uid", "resourceVersion"):
            if name in metadata and metadata[name] != old["metadata"][name]:
                raise ConflictError(f"{place[1]} {place[3]!r}: {name} {metadata[name]!r} is not current", 409)

    def _stamp(self, body: Body, namespace: str) -> Body:
        metadata = {key: value for key, value in body["metadata"].items() if key not in _SERVER_FIELDS}
        metadata |= {
            "namespace": namespace,
            "uid": f"uid-{next(self._uids)}",
            "generation": 1,
            "creationTimestamp": self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return {**body, "metadata": metadata}

    def _update(self, place: Place, old: Body, new: Body) -> Body:
        new = {**new, "metadata": dict(new["metadata"])}
        for name in _SERVER_FIELDS:
            if name in old["metadata"]:
                new["metadata"][name] = old["metadata"][name]
            elif name != "resourceVersion":
                new["metadata"].pop(name, None)
        if new == old:
            return self._copy(place)  # a write that changes nothing makes no new version and no event
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        return self._store("MODIFIED", place, new)

    def _store(self, event: str, place: Place, body: Body) -> Body:
        body["metadata"]["resourceVersion"] = self._next_version()
        self._objects[place] = body
        self._frozen[place] = marshal.dumps(body, 2)  # format 2 keeps no part of a value twice the same object
        self._tell(event, self._frozen[place])
        return self._copy(place)

    def _copy(self, place: Place) -> Body:
        body: Body = marshal.loads(self._frozen[place])
        return body

    def _tell(self, event: str, frozen: bytes) -> None:
        for listener in self._listeners:
            listener(event, marshal.loads(frozen))

    def _delete(self, place: Place) -> None:
        body = self._objects[place]
        if place[1] not in self.lingers and not body["metadata"].get("finalizers"):
            self._drop(place)
        elif "deletionTimestamp" not in body["metadata"]:
            # The API server's stamp is the moment at which the grace period will be over.
            grace = body["spec"].get("terminationGracePeriodSeconds", 30) if place[1] == "Pod" else 0
            stamp = (self.now() + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
            leaving = {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": grace}
            self._store("MODIFIED", place, {**body, "metadata": {**body["metadata"], **leaving}})

    def _drop(self, place: Place) -> None:
        body = self._objects.pop(place)
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": self._next_version()}}
        del self._frozen[place]
        self._applied.pop(place, None)
        self._tell("DELETED", marshal.dumps(body, 2))
        uid = body["metadata"]["uid"]
        alive = {other["metadata"]["uid"] for other in self._objects.values()}
        for other_place, other in list(self._objects.items()):
            owners = [owner["uid"] for owner in other["metadata"].get("ownerReferences") or ()]
            if uid in owners and not alive.intersection(owners) and other_place in self._objects:
                self._delete(other_place)


@lru_cache(maxsize=10_000)
def _view(read: Callable[[Body], Any], frozen: bytes) -> Any:
    return read(marshal.loads(frozen))


def _received(body: Mapping[str, Any]) -> Body:
    """Return a body as it comes over the wire."""
    new: Body = json.loads(json.dumps(body))
    return new


def merge_patch(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _removed(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> Body:
    """The patch that takes away what we applied before and do not apply now."""
    patch: Body = {}
    for key, value in before.items():
        if key not in wanted:
            patch[key] = None
        elif isinstance(value, Mapping) and isinstance(wanted[key], Mapping):
            patch[key] = _removed(value, wanted[key])
    return patch


_SET_TERM = re.compile(r"(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)")


def labels_match(labels: Mapping[str, str], selector: str | None) -> bool:
    if not selector:
        return True
    rest = selector
    for match in _SET_TERM.finditer(selector):
        values = {value.strip() for value in match["values"].split(",")}
        if (labels.get(match["key"]) in values) != (match["op"] == "in"):
            return False
        rest = rest.replace(match[0], "")
    return all(_term_matches(labels.get, term.strip()) for term in rest.split(",") if term.strip())


def _fields_match(body: Mapping[str, Any], selector: str | None) -> bool:
    def read(path: str) -> Any:
        value: Any = body
        for part in path.split("."):
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        return value

    return all(_term_matches(read, term.strip()) for term in (selector or "").split(",") if term.strip())


def _term_matches(read: Callable[[str], Any], term: str) -> bool:
    if "!=" in term:
        key, _, value = term.partition("!=")
        return bool(read(key.strip()) != value.strip())
    if "=" in term:
        key, _, value = term.replace("==", "=").partition("=")
        return bool(read(key.strip()) == value.strip())
    if term.startswith("!"):
        return read(term[1:].strip()) is None
    return read(term) is not None
