"""One active replica: a coordination.k8s.io/v1 Lease, acquired, renewed and released.

Clocks of other machines are not trusted. A lease counts as abandoned when we have seen no change of it for its
duration, on our own monotonic clock. The protocol is that of client-go's leaderelection
(https://pkg.go.dev/k8s.io/client-go/tools/leaderelection), which also gives the field names their meaning.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from vicuna_operator.errors import (
    AlreadyExistsError,
    ConflictError,
    KubeError,
    LeaseLostError,
    NotFoundError,
    UnavailableError,
)
from vicuna_operator.kube.port import Body, Kube
from vicuna_operator.planning.actions import Ref

__all__ = ["Lease", "LeaseTiming"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTiming:
    """All in seconds. A killed leader is replaced after at most duration + poll; a stopped one after poll."""

    duration: int = 12
    renew_every: float = 4.0
    # Less than `duration`: a leader that cannot renew stops before another may start.
    renew_deadline: float = 10.0
    poll: float = 2.0
    request_timeout: float = 4.0


class Lease:
    """The Lease that makes us the one active replica."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: LeaseTiming | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._ref = Ref("coordination.k8s.io/v1", "Lease", name)
        self._identity = identity
        self._timing = timing or LeaseTiming()
        self._clock = clock
        self._sleep = sleep
        self._mine: Body | None = None
        self._renewed = float("-inf")
        self._observed: tuple[object, ...] = ()
        self._observed_at = float("-inf")

    async def acquire(self) -> None:
        """Wait until the lease is ours; while the API fails, go on trying.

        Raises:
            KubeError: the API refuses, for lack of rights or of the namespace.
        """
        waiting_for, complaint = "", ""
        while True:
            started = self._clock()
            try:
                async with asyncio.timeout(self._timing.request_timeout):
                    holder = await self._try_acquire()
            except (UnavailableError, ConflictError, TimeoutError) as error:
                if (message := str(error) or "no answer in time") != complaint:
                    logger.warning("Cannot read or take the Lease %s: %s", self._where, message)
                complaint = message
            else:
                complaint = ""
                if holder == self._identity:
                    self._renewed = started
                    logger.info("Leading: the Lease %s is ours (%s).", self._where, self._identity)
                    return
                if holder != waiting_for:
                    logger.info("Standing by: %s holds the Lease %s.", holder, self._where)
                waiting_for = holder
            await self._sleep(self._timing.poll)

    async def hold(self) -> NoReturn:
        """Renew until that fails for too long.

        Raises:
            LeaseLostError: the lease was taken by another replica or could not be renewed in time.
        """
        problem = "it was never ours"
        while (left := self._renewed + self._timing.renew_deadline - self._clock()) > 0:
            started = self._clock()
            try:
                async with asyncio.timeout(min(self._timing.request_timeout, left)):
                    await self._write(self._spec(renewing=True))
                self._renewed = started
            except (KubeError, TimeoutError) as error:
                problem = str(error) or "no answer in time"
                logger.warning("Cannot renew the Lease %s: %s", self._where, problem)
                await self._look_again()
                await self._sleep(min(self._timing.poll, self._timing.renew_every))
            else:
                await self._sleep(self._timing.renew_every)
        raise LeaseLostError(f"the Lease {self._where} could not be renewed in time: {problem}")

    async def release(self) -> None:
        """Release the lease, so that another replica acquires it at its next poll; never raises."""
        if self._mine is None:
            return
        try:
            async with asyncio.timeout(self._timing.request_timeout):
                await self._look_again()  # a renewal that `hold` was cancelled in may have been written
                await self._write({**self._spec(renewing=True), "holderIdentity": "", "leaseDurationSeconds": 1})
        except (KubeError, LeaseLostError, TimeoutError) as error:
            logger.warning("Cannot release the Lease %s: %s", self._where, error)
        else:
            logger.info("The Lease %s is released.", self._where)
        self._mine = None

    @property
    def _where(self) -> str:
        return f"{self._namespace}/{self._ref.name}"

    async def _try_acquire(self) -> str:
        """Take the lease where it is free; return its holder."""
        found = await self._kube.get(self._ref, self._namespace)
        if found is None:
            return await self._create()
        spec = found.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if holder and holder != self._identity and not self._abandoned(spec):
            return holder
        self._mine = found
        try:
            await self._write(self._spec(renewing=False))
        except (ConflictError, NotFoundError):
            self._mine = None
            return holder or "another replica"
        return self._identity

    async def _create(self) -> str:
        body = {
            "apiVersion": self._ref.api_version,
            "kind": self._ref.kind,
            "metadata": {"name": self._ref.name, "namespace": self._namespace},
            "spec": self._spec(renewing=False),
        }
        try:
            self._mine = await self._kube.create(body, self._namespace)
        except (AlreadyExistsError, ConflictError):
            return "another replica"
        return self._identity

    def _abandoned(self, spec: Body) -> bool:
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._observed:
            self._observed, self._observed_at = seen, self._clock()
        duration = float(spec.get("leaseDurationSeconds") or self._timing.duration)
        return self._clock() - self._observed_at >= duration

    async def _look_again(self) -> None:
        """Check after a failed renewal whether the lease is still ours, maybe under a newer resourceVersion."""
        try:
            async with asyncio.timeout(self._timing.request_timeout):
                found = await self._kube.get(self._ref, self._namespace)
        except (KubeError, TimeoutError):
            return
        holder = ((found or {}).get("spec") or {}).get("holderIdentity")
        if found is None or holder != self._identity:
            self._mine = None
            what = "was deleted" if found is None else f"was taken by {holder}" if holder else "was released"
            raise LeaseLostError(f"the Lease {self._where} {what}")
        self._mine = found

    def _spec(self, *, renewing: bool) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (self._mine or {}).get("spec") or {}
        transitions = int(old.get("leaseTransitions") or 0)
        if not renewing and self._mine is not None and old.get("holderIdentity") != self._identity:
            transitions += 1
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._timing.duration,
            "acquireTime": old.get("acquireTime", now) if renewing else now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    async def _write(self, spec: dict[str, Any]) -> None:
        mine = self._mine
        if mine is None:
            raise LeaseLostError(f"the Lease {self._where} is not ours")
        version = mine["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        self._mine = await self._kube.patch(self._ref, self._namespace, body)
