"""Every kopf decorator of the operator, without logic: indices are kept, loops are woken.

There is no daemon, timer, create, update or delete handler: each of them makes kopf write annotations or a finalizer to
the object. A finalizer of a stopped operator would block the deletion of models and whole namespaces.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import kopf

from vicuna_contract import names as c
from vicuna_operator.controller.settings import WATCHED_CHILDREN, configure
from vicuna_operator.controller.snapshot import Key, Snapshot, View
from vicuna_operator.kube.connection import Connection
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.jobs import JobView
from vicuna_operator.planning.observed import ClaimView, ManagedObjectView
from vicuna_operator.planning.pods import PodView

__all__ = ["Wakeups", "register"]

# index name in kopf and in Snapshot -> the view it holds
_VIEWS: Mapping[str, Callable[[Mapping[str, Any]], View]] = {
    "jobs": JobView.of,
    "deployments": DeploymentView.of,
    "pods": PodView.of,
    "claims": ClaimView.of,
    "services": ManagedObjectView.of,
}


class Wakeups(Protocol):
    """What runs the reconcile loops."""

    def wake(self, key: Key) -> None:
        """Let this model's loop make a pass soon."""
        ...

    async def close(self) -> None:
        """Stop all loops."""
        ...


def register(
    registry: kopf.OperatorRegistry,
    snapshot: Snapshot,
    wakeups: Wakeups,
    connection: Callable[[], Awaitable[Connection]],
) -> None:
    """Declare all handlers on a registry of our own, so that importing this package declares nothing."""

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return _connection_info(await connection())

    @kopf.on.startup(registry=registry)
    async def startup(settings: kopf.OperatorSettings, **indices: Any) -> None:
        configure(settings)
        for name in ("models", *_VIEWS):
            setattr(snapshot, name, indices[name])  # kopf updates these objects in place

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        await wakeups.close()

    @kopf.index(c.GROUP, c.VERSION, c.PLURAL, id="models", registry=registry)
    async def index_model(body: kopf.Body, **_: Any) -> dict[Key, Any]:
        return {_key(body): _plain(body)}

    @kopf.on.event(c.GROUP, c.VERSION, c.PLURAL, id="model", registry=registry)
    async def model_changed(body: kopf.Body, **_: Any) -> None:
        wakeups.wake(_key(body))

    for index_name, (group, version, plural, _, _) in zip(_VIEWS, WATCHED_CHILDREN, strict=True):
        _register_child(registry, wakeups, index_name, (group, version, plural))


def _register_child(
    registry: kopf.OperatorRegistry, wakeups: Wakeups, index_name: str, resource: tuple[str, str, str]
) -> None:
    view = _VIEWS[index_name]

    @kopf.index(*resource, id=index_name, registry=registry)
    async def index_child(body: kopf.Body, **_: Any) -> dict[Key, View] | None:
        key = _model_of(body)
        return {key: view(body)} if key else None

    @kopf.on.event(*resource, id=f"{index_name}-changed", registry=registry)
    async def child_changed(body: kopf.Body, **_: Any) -> None:
        if key := _model_of(body):
            wakeups.wake(key)


def _key(body: Mapping[str, Any]) -> Key:
    return str(body["metadata"]["namespace"]), str(body["metadata"]["name"])


def _model_of(body: Mapping[str, Any]) -> Key | None:
    metadata = body["metadata"]
    name = (metadata.get("labels") or {}).get(c.LABEL_MODEL)
    return (str(metadata["namespace"]), str(name)) if name else None


def _plain(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def _connection_info(given: Connection) -> kopf.ConnectionInfo:
    scheme, _, token = (given.authorization or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=given.server,
        ca_path=given.ca_path,
        insecure=given.insecure,
        scheme=scheme or None,
        token=token or None,
        certificate_path=given.certificate_path,
        private_key_path=given.private_key_path,
        username=given.username,
        password=given.password,
        proxy_url=given.proxy_url,
        trust_env=True,
    )
