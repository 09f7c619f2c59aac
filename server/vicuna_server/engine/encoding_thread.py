"""The one thread that encodes prompts, the calls that wait for it, and whether it hangs.

Tokenizers keep settings between calls, so one thread makes all calls. A call cannot be stopped from outside. Where one
takes too long, callers get an error, and only a new process helps.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from vicuna_server.errors import EngineError

__all__ = ["HUNG_SECONDS", "EncodingThread"]

logger = logging.getLogger(__name__)

HUNG_SECONDS = 60.0
"""Far more than a call takes: a text that fills a large context takes a second or two."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[], Any]
    result: asyncio.Future[Any]


class EncodingThread:
    """Runs calls one after the other. Methods are for the event loop that made it.

    Args:
        hung_seconds: A call that runs for longer counts as hung.
    """

    def __init__(self, hung_seconds: float = HUNG_SECONDS) -> None:
        self._hung_seconds = hung_seconds
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._reported = False
        self.waiting = 0
        """Calls that run or wait to be run."""

    @property
    def hung(self) -> bool:
        """Whether a call has been running for too long."""
        since = self._since
        return since is not None and time.monotonic() - since > self._hung_seconds

    async def run(self, function: Callable[[], Result]) -> Result:
        """Return what a call gives, once those before it have ended.

        Raises:
            EngineError: `EncodingHung`; whatever the call raises.
        """
        loop = asyncio.get_running_loop()
        if self._thread is None:
            # A daemon, so that a hung call does not keep the process from ending.
            self._thread = threading.Thread(target=self._main, args=(loop,), name="encode", daemon=True)
            self._thread.start()
        call = _Call(function, loop.create_future())
        self.waiting += 1
        self._calls.put(call)
        try:
            while not self.hung:
                done, _ = await asyncio.wait({call.result}, timeout=self._hung_seconds)
                if done:
                    return await call.result  # type: ignore[no-any-return]
            if not self._reported:
                self._reported = True
                logger.error("a prompt has been encoded for more than %.0f s; /livez says so", self._hung_seconds)
            raise EngineError(
                "EncodingHung",
                f"a prompt has been encoded for more than {self._hung_seconds:g} s; the server must be restarted",
            )
        finally:
            self.waiting -= 1
            call.result.cancel()

    def close(self) -> None:
        """Let the thread end after its current call."""
        self._calls.put(None)

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        while (call := self._calls.get()) is not None:
            if call.result.cancelled():
                continue
            self._since = time.monotonic()
            value, failure = None, None
            try:
                value = call.function()
            except Exception as error:  # noqa: BLE001  # raised again for the caller
                failure = error
            self._since = None
            with suppress(RuntimeError):  # the loop may be closed already when the process is ending
                loop.call_soon_threadsafe(_settle, call.result, value, failure)
            del call, value, failure  # these may be megabytes: free them before waiting for the next call


def _settle(result: asyncio.Future[Any], value: Any, failure: Exception | None) -> None:
    if result.done():
        return
    if failure is not None:
        result.set_exception(failure)
    else:
        result.set_result(value)
