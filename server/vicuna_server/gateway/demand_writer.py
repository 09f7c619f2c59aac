"""Writes what a replica's demand is: on change, at most once a second, and again while there is any."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from vicuna_contract.backoff import Backoff
from vicuna_contract.demand import Demand
from vicuna_server.gateway.catalogue import Catalogue
from vicuna_server.gateway.demand import DemandCounts
from vicuna_server.gateway.demand_record import DemandRecord, demand_labels, long_gone
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.usage_api import ConflictError, NoStoreError, UsageApi

__all__ = ["DemandObjects", "DemandWriter", "demand_writer"]

logger = logging.getLogger(__name__)

_FIRST_DELAY, _MOST_DELAY = 1.0, 30.0
_ABSENT_SECONDS = 60.0
_LOOK_SECONDS = 6 * 3600.0
_CLOSE_SECONDS = 5.0
Body = dict[str, Any]


class DemandObjects(Protocol):
    """The VicunaUsages of the gateway's namespace, as `UsageApi` has them."""

    async def list(self, labels: Mapping[str, str], *, metadata_only: bool = False) -> list[Body]:
        """Return the objects with these labels."""
        ...

    async def write(self, body: Body) -> Body:
        """Make or replace an object; return it as it is stored."""
        ...

    async def delete(self, name: str) -> None:
        """Delete an object."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class DemandWriter:
    """The only task that writes the object of a replica. Requests never wait for it.

    Args:
        record: the object.
        gateway: name of the gateway's Service.
        objects: where it is written.
        stated: returns the demand to state.
        clock: seconds that only grow.
        now: the present time in UTC.
    """

    def __init__(
        self,
        record: DemandRecord,
        gateway: str,
        objects: DemandObjects,
        stated: Callable[[], tuple[Demand, ...]],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._record = record
        self._labels = demand_labels(gateway)
        self._objects = objects
        self._stated = stated
        self._clock = clock
        self._now = now
        self._wake = asyncio.Event()
        self._backoff = Backoff(_FIRST_DELAY, _MOST_DELAY)
        self._not_before = self._looked = float("-inf")
        self._failed = False

    def wake(self) -> None:
        """Look again whether there is something to write."""
        self._wake.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self._wake.clear()
            delay = self.due() - self._clock()
            if delay <= 0:
                await self.round()
            elif self._waits_for_change():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
            else:  # nothing makes it due sooner
                await asyncio.sleep(delay)

    def _waits_for_change(self) -> bool:
        return self._record.states(self._stated()) and self._not_before <= self._clock()

    def due(self) -> float:
        """Return when the next round is due, by the clock."""
        look = float("-inf") if not self._record.is_known else self._looked + _LOOK_SECONDS
        return max(self._not_before, min(look, self._record.due(self._stated())))

    async def round(self) -> None:
        """Do what is due; a failure is logged once, and tried again after a pause."""
        try:
            await self._do()
        except NoStoreError as error:
            self._fail("the demand for models is not stated, so none is scaled by it: %.300s", error, _ABSENT_SECONDS)
        except Exception as error:  # noqa: BLE001  # whatever failed, only another try helps
            self._record.is_known = False
            self._fail("cannot write the demand for models: %.300s; trying again", error)
        else:
            if self._failed:
                logger.info("the demand for models is written again")
            self._failed, self._not_before = False, float("-inf")
            self._backoff.reset()

    async def close(self) -> None:
        """Delete the object: this replica has no requests any more."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                if self._record.exists:
                    await self._objects.delete(self._record.name)
        except Exception as error:  # noqa: BLE001  # the process ends all the same
            logger.warning("the object %s of this replica's demand was not deleted: %s", self._record.name, error)
        finally:
            await self._objects.close()

    async def _do(self) -> None:
        if not self._record.is_known or self._clock() >= self._looked + _LOOK_SECONDS:
            await self._look()
        try:
            await self._write()
        except ConflictError:  # another replica has deleted it, since nothing was written for long
            await self._look()
            await self._write()

    async def _write(self) -> None:
        stated, at = self._stated(), self._clock()
        if self._record.due(stated) <= at:
            response = await self._objects.write(self._record.body(stated, self._now()))
            self._record.wrote(stated, response, at)

    async def _look(self) -> None:
        """Read all replicas' objects, and delete those of replicas that have long gone."""
        objects = await self._objects.list(self._labels)
        self._record.read(objects)
        self._looked = self._clock()
        for name in long_gone(objects, self._now()):
            if name != self._record.name:
                await self._objects.delete(name)

    def _fail(self, what: str, error: Exception, seconds: float | None = None) -> None:
        if not self._failed:
            logger.warning(what, str(error) or type(error).__name__)
        self._failed = True
        self._not_before = self._clock() + (self._backoff.next() if seconds is None else seconds)


def demand_writer(service: NamespacedName, catalogue: Catalogue, counts: DemandCounts) -> DemandWriter:
    """Return the writer of this process; it states the demand for models with `serving.autoscaling` alone."""

    def matters(key: tuple[str, str]) -> bool:
        model = catalogue.model(key)
        return model is not None and model.autoscaled

    def changed(key: tuple[str, str]) -> None:
        if matters(key):
            writer.wake()

    pod = os.environ.get("HOSTNAME") or socket.gethostname()
    record = DemandRecord(service, pod, f"{pod}/{secrets.token_hex(8)}")
    writer = DemandWriter(record, service.name, UsageApi(service.namespace), lambda: counts.stated(matters))
    counts.on_change = changed
    catalogue.listeners.append(lambda _: writer.wake())
    return writer
