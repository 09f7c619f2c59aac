"""The operator process: health server, Lease, kopf as the leading task, and an orderly shutdown."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any

import kopf

from vicuna_contract import names as c
from vicuna_contract.exits import ExitCode
from vicuna_operator.config import OperatorConfig
from vicuna_operator.controller.handlers import register
from vicuna_operator.controller.health import Health
from vicuna_operator.controller.loops import Loops
from vicuna_operator.controller.metrics import Metrics
from vicuna_operator.controller.namespaces import Reach, find_reach, until_changed
from vicuna_operator.controller.reconciler import Planning, Reconciler
from vicuna_operator.controller.snapshot import Snapshot
from vicuna_operator.controller.watches import watch_others
from vicuna_operator.errors import ForbiddenError, KubeError, StartError
from vicuna_operator.kube.client import KubeClient
from vicuna_operator.kube.leader import Lease
from vicuna_operator.kube.port import Kube
from vicuna_operator.planning.plan import claims_to_read, plan
from vicuna_operator.planning.stopped_status import refused

__all__ = ["check_cluster", "run_operator"]

logger = logging.getLogger(__name__)

EXIT_NO_PERMISSION = 77

_STUCK_SECONDS = 600.0
_END_SECONDS = 4.0


async def run_operator(config: OperatorConfig) -> int:
    """Run until SIGTERM or SIGINT (exit code 0) or until the leading task ends for any other reason (1).

    Raises:
        StartError: the cluster cannot be reached or used, or the health port is taken.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    snapshot = Snapshot()
    metrics = Metrics(snapshot)
    async with _client(metrics) as kube:
        reconciler = Reconciler(
            kube,
            snapshot,
            Planning(plan=plan, claims_to_read=claims_to_read, refused=refused),
            config.plan,
            instance=config.identity,
            manager=f"{config.namespace}/{config.lease_name}",
            on_status=metrics.record_status,
            wake=lambda key: loops.wake(key),
        )
        metrics.left_alone.set_function(lambda: reconciler.left_alone)
        metrics.set_demands(reconciler.demands.totals)
        loops = Loops(reconciler.exists, reconciler.reconcile, on_gone=reconciler.forget, on_pass=metrics.record_pass)
        async with _health(config, loops, metrics) as health:
            await check_cluster(kube, config)
            health.ready = True
            lease = Lease(kube, config.namespace, config.lease_name, config.identity)
            if not await _unless(stop, _acquire(lease)):
                await lease.release()  # the signal may have come after the API granted the Lease
                return 0
            metrics.leading.set(1)
            async with _given_back(lease):
                reach = await check_cluster(kube, config)  # again: the standby may have waited for days
            for namespace, error in reach.refused.items():
                logger.error("The namespace %s is left out, and checked again later: %s", namespace, error)
            metrics.namespaces_refused.set(len(reach.refused))
            registry = kopf.OperatorRegistry()
            register(registry, snapshot, loops, kube.connection)
            watches = watch_others(kube, reconciler, reach.usable, config.namespace)
            return await _lead(reach, lease, loops, registry, stop, until_changed(kube, reach), watches)


async def check_cluster(kube: Kube, config: OperatorConfig) -> Reach:
    """Check that the CRD is installed and that everything the operator watches may be read, in one namespace at least.

    Raises:
        StartError: says what is missing.
    """
    try:
        if not await kube.offers(c.API_VERSION):
            raise StartError(
                f"the cluster does not know {c.PLURAL}.{c.GROUP}: install the CRD first (the chart does, or crds/)",
                ExitCode.UNREACHABLE,
            )
        return await find_reach(kube, config.watch_namespaces)
    except ForbiddenError as error:
        hint = "grant the chart's roles, or name the namespaces to serve in VICUNA_WATCH_NAMESPACES"
        raise StartError(f"missing rights: {error}; {hint}", EXIT_NO_PERMISSION) from error
    except KubeError as error:
        raise StartError(f"cannot use the cluster: {error}", ExitCode.UNREACHABLE) from error


async def _acquire(lease: Lease) -> None:
    try:
        await lease.acquire()
    except KubeError as error:
        code = EXIT_NO_PERMISSION if isinstance(error, ForbiddenError) else ExitCode.UNREACHABLE
        raise StartError(f"cannot take the Lease: {error}", code) from error


@contextlib.asynccontextmanager
async def _given_back(lease: Lease) -> AsyncIterator[None]:
    """Release the Lease where the holder fails before it leads, so that no other replica has to wait for it."""
    try:
        yield
    except BaseException:
        await lease.release()
        raise


async def _lead(
    reach: Reach,
    lease: Lease,
    loops: Loops,
    registry: kopf.OperatorRegistry,
    stop: asyncio.Event,
    changed: Coroutine[Any, Any, str],
    watches: Coroutine[Any, Any, None],
) -> int:
    # kopf ends every task that was created after it, so these come first
    holding = asyncio.create_task(lease.hold(), name="hold the Lease")
    stopping = asyncio.create_task(stop.wait(), name="wait for a signal")
    changing = asyncio.create_task(changed, name="wait for other namespaces")
    watching = asyncio.create_task(watches, name="watch claims and demand")
    started, end = asyncio.Event(), asyncio.Event()
    signals = asyncio.create_task(_signals_back(started, stop), name="take the signals back")
    namespaces: dict[str, Any] = {"namespaces": tuple(reach.usable)} if reach.usable else {"clusterwide": True}
    leading = asyncio.create_task(
        kopf.operator(
            registry=registry,
            standalone=True,
            ready_flag=started,
            stop_flag=end,
            **namespaces,
        ),
        name="kopf",
    )
    ends = {holding, stopping, changing, watching, leading}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    code = _exit_code(holding, stopping, changing, watching, leading)
    await loops.close()  # nothing is written any more from here on, so another replica may start
    others = (holding, stopping, changing, watching, signals)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await lease.release()
    end.set()
    await asyncio.wait({leading}, timeout=_END_SECONDS)
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    return code


def _exit_code(
    holding: asyncio.Task[Any],
    stopping: asyncio.Task[Any],
    changing: asyncio.Task[str],
    watching: asyncio.Task[None],
    leading: asyncio.Task[Any],
) -> int:
    if stopping.done():
        logger.info("Asked to stop.")
        return 0
    if holding.done():
        logger.error("No longer leading: %s", holding.exception())
    elif changing.done() and (failure := changing.exception()) is not None:
        logger.error("Checking the namespaces failed: %s", failure)
    elif changing.done():
        logger.warning("Access to namespaces has changed (%s): restarting.", changing.result())
        return 0
    elif watching.done():
        logger.error("The watch of claims and demand ended: %s", watching.exception())
    else:
        reason = leading.exception() if not leading.cancelled() else "cancelled"
        logger.error("The watches ended: %s", reason or "without a reason given")
    return 1


async def _signals_back(started: asyncio.Event, stop: asyncio.Event) -> None:
    """Take SIGTERM back from kopf, which claims it at its start: the Lease must be released before kopf ends."""
    await started.wait()
    _stop_on_signals(stop)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _unless(stop: asyncio.Event, work: Awaitable[None]) -> bool:
    """Wait for the work; False when a signal came first."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        for item in (task, stopping):
            item.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)


@contextlib.asynccontextmanager
async def _client(metrics: Metrics) -> AsyncIterator[KubeClient]:
    try:
        kube = await KubeClient.connect(on_request=metrics.record_request)
    except KubeError as error:
        raise StartError(str(error), ExitCode.UNREACHABLE) from error
    try:
        yield kube
    finally:
        await kube.close()


@contextlib.asynccontextmanager
async def _health(config: OperatorConfig, loops: Loops, metrics: Metrics) -> AsyncIterator[Health]:
    def problem() -> str | None:
        longest = loops.longest_pass()
        return f"a pass has been running for {longest:.0f} s" if longest > _STUCK_SECONDS else None

    health = Health(config.health_port, problem, metrics=metrics.render)
    if config.health_port:
        await health.start()
    try:
        yield health
    finally:
        await health.close()
