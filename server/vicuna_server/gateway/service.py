"""One running gateway: two ports, the watches, and a shutdown that waits for open streams."""

import asyncio
import gc
import logging
import time

from vicuna_server.asgi.draining import Drain
from vicuna_server.asgi.event_loop import run
from vicuna_server.asgi.listening import bind
from vicuna_server.errors import VicunaError
from vicuna_server.gateway.ability_queries import AbilityQueries
from vicuna_server.gateway.accounting import Accounting, accounting_of
from vicuna_server.gateway.app import create_app
from vicuna_server.gateway.authentication import Authentication
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.cluster import Cluster
from vicuna_server.gateway.demand_writer import DemandWriter, demand_writer
from vicuna_server.gateway.keys import KeyRing
from vicuna_server.gateway.limits import raise_descriptors
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.options import Options
from vicuna_server.gateway.ports import ClientPort, MetricsPort
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.server import EmbeddedServer, GatewayServer
from vicuna_server.gateway.signing import Signer, private_key
from vicuna_server.gateway.upstream import Upstream

__all__ = ["serve_forever"]

logger = logging.getLogger(__name__)


def serve_forever(options: Options) -> None:
    """Serve until a signal stops it.

    Raises:
        VicunaError: a port is taken, or there is no cluster.
    """
    raise_descriptors()
    gc.collect()
    gc.freeze()  # imported objects stay, so the collector need not scan them while requests wait
    run(_serve(options))


async def _serve(options: Options) -> None:
    state, synced, rates = Drain(loaded=True), asyncio.Event(), Rates()
    catalogue = Catalogue(several=options.several_namespaces)
    upstream = Upstream(options.settings, Metrics(), catalogue)
    if options.signing_key is not None:
        upstream.signer = Signer(private_key(options.signing_key))
    accounting = upstream.accounting = accounting_of(options.service, rates)
    demand = None if options.service is None else demand_writer(options.service, catalogue, upstream.demand)
    abilities = AbilityQueries(catalogue, upstream.list_models)
    authentication = create_app(
        catalogue, upstream, rates, lambda: synced.is_set() and not state.draining, abilities.of
    )
    port = ClientPort(authentication, upstream)
    metrics_port = MetricsPort(upstream)
    with (
        bind(options.host, options.port) as listener,
        bind(options.host, options.metrics_port, "--metrics-port") as metrics_listener,
    ):
        await upstream.open()
        server = GatewayServer(port.config(state), state, options.drain_seconds, port)
        metrics = EmbeddedServer(metrics_port.config(), Drain(loaded=True), 0.0, metrics_port)
        logger.info("listening on port %d, metrics on %d", *(s.getsockname()[1] for s in (listener, metrics_listener)))
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_watch(options, catalogue, rates, authentication, synced))
                writing = tasks.create_task(_write(accounting, demand))
                tasks.create_task(metrics.serve(sockets=[metrics_listener]))
                await server.serve(sockets=[listener])
                metrics.should_exit = True
                watching.cancel()
                writing.cancel()
        except ExceptionGroup as group:  # Python before 3.11.4 wraps what `except*` raises in another group
            known, others = group.split(VicunaError)
            if known is None or others is not None:
                raise
            raise known.exceptions[0] from None
        finally:
            await abilities.close()
            await upstream.close()
            await _end_writing(accounting, demand)


async def _write(accounting: Accounting, demand: DemandWriter | None) -> None:
    """Write to the cluster what this replica counts, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(accounting.run())
        if demand is not None:
            tasks.create_task(demand.run())


async def _end_writing(accounting: Accounting, demand: DemandWriter | None) -> None:
    await accounting.close()
    if demand is not None:
        await demand.close()


async def _watch(
    options: Options, catalogue: Catalogue, rates: Rates, authentication: Authentication, synced: asyncio.Event
) -> None:
    """Keep models, endpoints and keys up to date, until cancelled."""
    if options.keys_secret is None:
        authentication.ring = options.ring
    if options.upstreams:
        for number, (name, url) in enumerate(options.upstreams):
            catalogue.put(Model("", name, name, created=int(time.time())))
            catalogue.put_endpoints(("", name), str(number), [Endpoint(url)])
        synced.set()
        return

    def on_keys(ring: KeyRing) -> None:
        authentication.ring = ring

    cluster = Cluster(catalogue, options.namespaces)
    if options.keys_secret is not None:
        cluster.watch_keys(*options.keys_secret, on_keys)
    if options.service is not None:
        cluster.watch_replicas(*options.service, rates)
    await cluster.run(synced)
