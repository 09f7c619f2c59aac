"""What the gateway watches in a cluster: models, their endpoints, its own replicas, and its keys."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from vicuna_contract.names import API_VERSION, PLURAL
from vicuna_server.gateway.api_server import ApiServer
from vicuna_server.gateway.catalogue import Catalogue
from vicuna_server.gateway.keys import KeyRing
from vicuna_server.gateway.objects import endpoints_of, identity_of, model_of, of_pods, secret_entries, service_of
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.reflector import Cache, Reflector
from vicuna_server.gateway.skip_broken import skip_if_broken

__all__ = ["Cluster"]

logger = logging.getLogger(__name__)

_SLICE_VERSIONS = ("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1")  # v1 came with Kubernetes 1.21
Body = dict[str, Any]


class Cluster:
    """Keeps the catalogue, the keys and the number of replicas up to date with the cluster.

    Args:
        catalogue: gets models and endpoints.
        namespaces: of the models; empty: all.
    """

    def __init__(self, catalogue: Catalogue, namespaces: Sequence[str]) -> None:
        self._api = ApiServer()
        self._catalogue = catalogue
        self._namespaces = namespaces
        self._wanted: list[Callable[[str], Reflector]] = []
        for namespace in namespaces or ("",):
            scope = f"/namespaces/{namespace}" if namespace else ""
            models = _Models(catalogue, namespace)
            self._wanted.append(self._reflect(f"/apis/{API_VERSION}{scope}/{PLURAL}", models))
            endpoints = _Endpoints(catalogue, namespace)
            self._wanted.append(self._reflect(f"/apis/{{slices}}{scope}/endpointslices", endpoints))

    def watch_keys(self, namespace: str, name: str, on_keys: Callable[[KeyRing], None]) -> None:
        """Keep the keys of one Secret up to date; `on_keys` is called with each change."""
        query = {"fieldSelector": f"metadata.name={name}"}
        self._wanted.append(self._reflect(f"/api/v1/namespaces/{namespace}/secrets", _Keys(on_keys), query))

    def watch_replicas(self, namespace: str, service: str, rates: Rates) -> None:
        """Keep the number of ready replicas behind the gateway's own Service up to date."""
        query = {"labelSelector": f"kubernetes.io/service-name={service}"}
        path = f"/apis/{{slices}}/namespaces/{namespace}/endpointslices"
        self._wanted.append(self._reflect(path, _Replicas(rates), query))

    async def run(self, synced: asyncio.Event) -> None:
        """Watch until cancelled; `synced` is set when everything has been listed once.

        Raises:
            UnreachableError: there is no cluster.
        """
        await self._api.connect()
        try:
            async with asyncio.TaskGroup() as tasks:
                slices = await self._slice_version()
                reflectors = [make(slices) for make in self._wanted]
                for reflector in reflectors:
                    tasks.create_task(reflector.run())
                for reflector in reflectors:
                    await reflector.synced.wait()
                synced.set()
        finally:
            await self._api.close()

    def _reflect(self, path: str, cache: Cache, query: dict[str, str] | None = None) -> Callable[[str], Reflector]:
        return lambda slices: Reflector(self._api, path.replace("{slices}", slices), cache, query or {})

    async def _slice_version(self) -> str:
        """Return the newest version of EndpointSlices that is offered; waits until the API server responds."""
        while True:
            try:
                for version in _SLICE_VERSIONS:
                    if await self._api.offers(version):
                        return version
                logger.warning("the API server offers no EndpointSlices; trying again")
            except Exception as error:  # noqa: BLE001  # whatever failed, only waiting helps
                logger.warning("cannot ask the API server: %s; trying again", str(error) or type(error).__name__)
            await asyncio.sleep(2)


class _Models:
    """The models of one namespace; empty: of all."""

    def __init__(self, catalogue: Catalogue, namespace: str) -> None:
        self._catalogue = catalogue
        self._namespace = namespace

    def replace(self, items: list[Body]) -> None:
        present = {identity_of(item) for item in items}
        for key in self._catalogue.known():
            if self._namespace in ("", key[0]) and key not in present:
                self._catalogue.remove(key)
        for item in items:
            skip_if_broken(self.changed, item)

    def changed(self, item: Body) -> None:
        model = model_of(item)
        if model is not None:
            self._catalogue.put(model)

    def deleted(self, item: Body) -> None:
        identity = identity_of(item)
        if identity is not None:
            self._catalogue.remove(identity)


class _Endpoints:
    """The endpoints of one namespace; empty: of all."""

    def __init__(self, catalogue: Catalogue, namespace: str) -> None:
        self._catalogue = catalogue
        self._namespace = namespace
        self._service_of: dict[tuple[str, str], tuple[str, str]] = {}

    def replace(self, items: list[Body]) -> None:
        present = {identity_of(item) for item in items}
        for identity in [each for each in self._service_of if each not in present]:
            self._forget(identity)
        for item in items:
            skip_if_broken(self.changed, item)

    def changed(self, item: Body) -> None:
        identity, service = identity_of(item), service_of(item)
        if identity is None or self._namespace not in ("", identity[0]):
            return
        if self._service_of.get(identity) != service:
            self._forget(identity)  # the slice now belongs to another Service
        self._service_of[identity] = service
        self._catalogue.put_endpoints(service, identity[1], of_pods(item))

    def deleted(self, item: Body) -> None:
        identity = identity_of(item)
        if identity is not None:
            self._forget(identity)

    def _forget(self, identity: tuple[str, str]) -> None:
        service = self._service_of.pop(identity, None)
        if service is not None:
            self._catalogue.put_endpoints(service, identity[1], ())


class _Replicas:
    """How many replicas of the gateway are ready."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._parts: dict[tuple[str, str] | None, int] = {}

    def replace(self, items: list[Body]) -> None:
        self._parts.clear()
        for item in items:
            skip_if_broken(self.changed, item)
        self._count()

    def changed(self, item: Body) -> None:
        self._parts[identity_of(item)] = len(list(endpoints_of(item)))
        self._count()

    def deleted(self, item: Body) -> None:
        self._parts.pop(identity_of(item), None)
        self._count()

    def _count(self) -> None:
        self._rates.replicas = max(1, sum(self._parts.values()))


class _Keys:
    """The keys of the one Secret that is asked for."""

    def __init__(self, on_keys: Callable[[KeyRing], None]) -> None:
        self._on_keys = on_keys

    def replace(self, items: list[Body]) -> None:
        if not items:
            logger.warning("the Secret of the API keys does not exist; all requests are refused until it does")
        self._take(secret_entries(items[0]) if items else {})

    def changed(self, item: Body) -> None:
        self._take(secret_entries(item))

    def deleted(self, item: Body) -> None:
        del item
        self.replace([])

    def _take(self, entries: dict[str, bytes]) -> None:
        ring = KeyRing.parse(entries)
        for name, problem in ring.broken.items():
            logger.warning("the entry %s of the Secret of API keys is not a key, and is skipped: %s", name, problem)
        logger.info("%d API keys", len(ring))
        self._on_keys(ring)
