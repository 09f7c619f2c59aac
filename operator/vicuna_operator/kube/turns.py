"""Who may write to the API server now.

A hundred models made at once want five writes each, all at the same moment. What merges and serves goes first: of the
rest (Services, Events, status) few are under way at a time. It also keeps down the number of new connections, each of
which costs the API server a signature.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

__all__ = ["Turns"]

_AHEAD = frozenset({"PersistentVolumeClaim", "Job", "Deployment"})
_WAITS_FOR_NOBODY = frozenset({"Lease"})  # or a busy API server would cost us the lead


class Turns:
    """Gives every write its turn.

    Args:
        ahead: how many claims, Jobs and Deployments may be written at a time.
        behind: how many objects of the other kinds.
        patience: seconds after which a write is not counted any more. It waits for something slow, an admission webhook
            for instance, and must not keep the other models waiting.
    """

    def __init__(self, *, ahead: int = 28, behind: int = 2, patience: float = 1.0) -> None:
        self._ahead, self._behind = asyncio.Semaphore(ahead), asyncio.Semaphore(behind)
        self.patience = patience

    @contextlib.asynccontextmanager
    async def turn(self, kind: str) -> AsyncIterator[None]:
        """Wait until an object of this kind may be written, and count it while it is."""
        if kind in _WAITS_FOR_NOBODY:
            yield
            return
        places, counted = self._ahead if kind in _AHEAD else self._behind, True

        def leave() -> None:
            nonlocal counted
            if counted:
                counted = False
                places.release()

        await places.acquire()
        timer = asyncio.get_running_loop().call_later(self.patience, leave)
        try:
            yield
        finally:
            timer.cancel()
            leave()
