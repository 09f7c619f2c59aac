"""/healthz and /readyz of the operator: its own server, up before the Lease and independent of it."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from vicuna_contract.exits import ExitCode
from vicuna_operator.errors import StartError

__all__ = ["Health"]


class Health:
    """Answers probes.

    Args:
        port: 0 means any free one; `port` tells which after the start.
        trouble: returns what is wrong with the process, None when it is well; a sentence fails /healthz.
        host: address to listen on; None: all.
        metrics: renders what /metrics answers.
    """

    def __init__(
        self,
        port: int,
        problem: Callable[[], str | None],
        *,
        host: str | None = None,
        metrics: Callable[[], bytes] = bytes,
    ) -> None:
        self.port = port
        self.ready = False
        self._problem = problem
        self._host = host
        self._render = metrics
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)])
        app.add_routes([web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def start(self) -> None:
        """Listen.

        Raises:
            StartError: the port is taken.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise StartError(
                f"cannot listen on port {self.port} for probes ({error.strerror or error}); set VICUNA_HEALTH_PORT",
                ExitCode.UNREACHABLE,
            ) from error
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        problem = self._problem()
        return web.Response(text=f"{problem or 'ok'}\n", status=500 if problem else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.ready:
            return web.Response(text="ok\n")
        return web.Response(text="the Kubernetes API has not answered yet\n", status=503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
