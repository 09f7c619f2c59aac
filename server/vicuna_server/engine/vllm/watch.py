"""Whether a vLLM server is there, and comes back: looked at once a second, for as long as ours runs.

Its `/health` says 200 while its engine hangs, and its process ends with exit code 0 after a crash, so what counts is
whether tokens come.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from vicuna_server.engine.vllm.client import Health, VllmClient
from vicuna_server.engine.vllm.counters import progress_of
from vicuna_server.engine.vllm.drained import DrainedFile
from vicuna_server.engine.vllm.progress import Progress
from vicuna_server.engine.vllm.settings import VllmSettings
from vicuna_server.errors import RequestError, VicunaError

__all__ = ["State", "Watch"]

logger = logging.getLogger(__name__)

State = Literal["starting", "", "gone", "hung"]
"""The empty one: it works."""

_ASKED_AFTER = 1 / 4
"""Of the time after which it hangs: from then on its own counters are read too."""
_TOLD_EVERY = 60.0


class Watch:
    """Knows how a vLLM server does.

    Args:
        client: The way to it.
        progress: Of requests under way.
        settings: How patient to be.
        prove: Has the server tell its model and generate a token; raises VicunaError where it does not.
        hangs: Called when the server is found to hang.
    """

    def __init__(
        self,
        client: VllmClient,
        progress: Progress,
        settings: VllmSettings,
        prove: Callable[[], Awaitable[None]],
        hangs: Callable[[], None],
    ) -> None:
        self.state: State = "starting"
        self._client = client
        self._progress = progress
        self._settings = settings
        self._prove = prove
        self._hangs = hangs
        self._drained = DrainedFile(settings.drained_file)
        self._answered = time.monotonic()

    async def started(self) -> None:
        """Wait for the server, for as long as it takes: compiling a model takes many minutes."""
        told = 0.0
        while self.state:
            if time.monotonic() - told >= _TOLD_EVERY:
                told = time.monotonic()
                logger.info("waiting for the vllm engine at %s", self._settings.url)
            await self._look()
            if self.state:
                await asyncio.sleep(self._settings.look_seconds)

    async def run(self) -> None:
        """Look again and again; only a cancellation ends it."""
        while True:
            await asyncio.sleep(self._settings.look_seconds)
            try:
                await self._look()
            except Exception:
                logger.exception("the vllm engine could not be looked at")

    async def _look(self) -> None:
        health = await self._client.health()
        if health is not Health.SILENT:
            self._answered = time.monotonic()
        if health is Health.DOWN:
            self._become("starting" if self.state == "starting" else "gone")
        elif self.state:
            await self._retry(health)
        elif await self._hangs_now():
            self._hang()

    async def _retry(self, health: Health) -> None:
        """See whether a server that was not there generates a token."""
        if health is Health.SILENT:
            if self.state == "gone" and self._silent_too_long():
                self._hang()
            return
        try:
            await asyncio.wait_for(self._prove(), self._settings.hung_seconds)
        except TimeoutError:
            if self.state != "hung":
                self._hang()
        except VicunaError as error:
            if self.state == "starting" and not _may_pass(error):
                raise
            logger.warning("the vllm engine does not work yet: %s", error.message)
        else:
            self._become("")

    async def _hangs_now(self) -> bool:
        limit = self._settings.hung_seconds
        if self._silent_too_long():
            return True
        if self._progress.silence > limit * _ASKED_AFTER and (text := await self._client.metrics()):
            self._progress.compare(progress_of(text))
        return self._progress.silence > limit

    def _silent_too_long(self) -> bool:
        return time.monotonic() - self._answered > self._settings.hung_seconds

    def _hang(self) -> None:
        self._become("hung")
        self._hangs()

    def _become(self, state: State) -> None:
        if state == self.state:
            return
        if state == "":
            logger.info("the vllm engine works")
            self._progress.move()
            self._drained.remove()
        elif state == "hung":
            logger.error("the vllm engine has not moved for %.0f s; /enginez says so", self._settings.hung_seconds)
            self._drained.write()  # its container is about to be started anew, and nothing is worth waiting for
        else:
            logger.error("the vllm engine is gone; waiting for it")
        self.state = state


def _may_pass(error: VicunaError) -> bool:
    return isinstance(error, RequestError) and error.status == 503
