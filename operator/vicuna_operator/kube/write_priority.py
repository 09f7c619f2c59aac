"""Which writes to the API server go first.

A hundred models created at once need five writes each at the same moment. Claims, Jobs and Deployments have priority:
of the rest (Services, Events, status) few are under way at a time. That also limits the number of new connections, each
of which costs the API server a signature.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

__all__ = ["WritePriority"]

_HIGH = frozenset({"PersistentVolumeClaim", "Job", "Deployment"})
_EXEMPT = frozenset({"Lease"})  # a renewal that waits could cost us the Lease


class WritePriority:
    """Limits concurrent writes, separately for each priority.

    Args:
        high: how many claims, Jobs and Deployments may be written at a time.
        low: how many objects of the other kinds.
        count_seconds: after so many seconds a write is not counted any more. It waits for something slow, such as an
            admission webhook, and must not hold up the other models.
    """

    def __init__(self, *, high: int = 28, low: int = 2, count_seconds: float = 1.0) -> None:
        self._high, self._low = asyncio.Semaphore(high), asyncio.Semaphore(low)
        self.count_seconds = count_seconds

    @contextlib.asynccontextmanager
    async def slot(self, kind: str) -> AsyncIterator[None]:
        """Wait until an object of this kind may be written, and count it while it is."""
        if kind in _EXEMPT:
            yield
            return
        slots, held = self._high if kind in _HIGH else self._low, True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                slots.release()

        await slots.acquire()
        timer = asyncio.get_running_loop().call_later(self.count_seconds, release)
        try:
            yield
        finally:
            timer.cancel()
            release()
