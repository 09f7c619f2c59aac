"""HTTP to one vLLM server, on this machine as a rule. Only this module and `reply` open connections."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp

from vicuna_server.connection_errors import CONNECTION_LOST
from vicuna_server.engine.vllm.completion import COMPLETIONS_PATH
from vicuna_server.engine.vllm.events import Event, EventReader
from vicuna_server.engine.vllm.failures import failed_response, unavailable
from vicuna_server.engine.vllm.reply import Reply
from vicuna_server.errors import EngineError

__all__ = ["Health", "Served", "VllmClient"]

CONNECT_SECONDS = 5.0
METRICS_SECONDS = 2.0
MOST_METRICS = 4 * 2**20


class Health(Enum):
    """What `/health` says."""

    UP = "up"
    DOWN = "down"
    """It refuses connections, or says that its engine is dead."""
    SILENT = "silent"
    """It takes connections and does not answer in time."""


@dataclass(frozen=True, slots=True)
class Served:
    """The model that a vLLM server has.

    Attributes:
        name: What requests call it.
        context_length: `max_model_len`, in tokens.
    """

    name: str
    context_length: int


class VllmClient:
    """Asks one server. No connection is used twice, so that one that breaks tells of the server and of nothing else.

    Args:
        url: Scheme, host and port.
        health_seconds: How long `/health` may take.
    """

    def __init__(self, url: str, health_seconds: float = 5.0) -> None:
        self._url = url
        self._health_seconds = health_seconds
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    async def health(self) -> Health:
        """Ask whether the server answers; that says nothing of its engine, which may hang."""
        try:
            async with self._http.get("/health", timeout=_within(self._health_seconds)) as response:
                return Health.UP if response.status == 200 else Health.DOWN
        except TimeoutError:
            return Health.SILENT
        except CONNECTION_LOST:
            return Health.DOWN

    async def served(self) -> Served:
        """Return what is served.

        Raises:
            OverloadedError: It cannot be asked.
            EngineError: `EngineIncompatible`.
        """
        try:
            async with self._http.get("/v1/models", timeout=_within(self._health_seconds)) as response:
                model = json.loads(await response.read())["data"][0]
            return Served(str(model["id"]), int(model["max_model_len"]))
        except CONNECTION_LOST as error:
            raise unavailable(_why(error)) from error
        except (ValueError, LookupError, TypeError) as error:
            raise EngineError(
                "EngineIncompatible",
                "--engine-url answers, but its /v1/models does not tell max_model_len as vLLM does; name a vLLM server",
            ) from error

    async def version(self) -> str:
        """Return vLLM's own; empty where it does not tell."""
        try:
            async with self._http.get("/version", timeout=_within(self._health_seconds)) as response:
                return str(json.loads(await response.read())["version"])
        except (*CONNECTION_LOST, ValueError, LookupError, TypeError):
            return ""

    async def metrics(self) -> bytes:
        """Return the exposition text; nothing where it cannot be had, or is larger than any."""
        try:
            async with self._http.get("/metrics", timeout=_within(METRICS_SECONDS)) as response:
                text = b""
                async for piece in response.content.iter_any():
                    text += piece
                    if len(text) > MOST_METRICS:
                        return b""
                return text if response.status == 200 else b""
        except CONNECTION_LOST:
            return b""

    async def whole(self, body: Mapping[str, object]) -> Any:
        """Return the JSON of an answer that is no stream.

        Raises:
            RequestError: vLLM refuses the request.
            OverloadedError: It cannot answer now.
        """
        try:
            async with self._http.post(COMPLETIONS_PATH, json=body) as response:
                status, content = response.status, await response.read()
        except CONNECTION_LOST as error:
            raise unavailable(_why(error)) from error
        if status != 200:
            raise failed_response(status, content)
        return json.loads(content)

    async def stream(
        self, body: Mapping[str, object], begun: Callable[[], object], take: Callable[[Event], bool]
    ) -> None:
        """Ask for a stream; at its end, and where this is cancelled, the connection is closed: vLLM then stops.

        Args:
            body: What is asked.
            begun: Called when the head of the response has come.
            take: Called with each event as it comes; returns whether no more is wanted.

        Raises:
            RequestError: vLLM refuses the request.
            OverloadedError: It cannot answer now.
            EngineError: The connection broke behind the head of the response; or an event cannot be read.
        """
        try:
            reply = await Reply.to(f"{self._url}{COMPLETIONS_PATH}", body, CONNECT_SECONDS)
        except OSError as error:
            raise unavailable(
                "does not answer" if isinstance(error, TimeoutError) else "refuses connections"
            ) from error
        async with reply:
            try:
                status = await reply.status()
                if status != 200:
                    raise failed_response(status, await reply.whole())
            except OSError as error:
                raise unavailable(_why(error)) from error
            begun()
            try:
                await reply.each(EventReader(take).read)
            except OSError as error:
                raise EngineError(
                    "EngineLost", f"the vllm engine was lost in the middle of an answer: {_why(error)}"
                ) from error

    @property
    def _http(self) -> aiohttp.ClientSession:
        """The connections; made on the event loop that uses them."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                self._url,
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                headers={"accept-encoding": "identity"},
                auto_decompress=False,
                trust_env=False,  # a proxy is for other machines
            )
        return self._session


def _within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


def _why(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return "refuses connections"
    if isinstance(error, TimeoutError):
        return "does not answer"
    return f"broke the connection ({type(error).__name__})"
