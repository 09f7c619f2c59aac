"""HTTP to one vLLM server, on this machine as a rule. The only module of the engine that opens connections."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx

from vicuna_server.engine.vllm.completion import COMPLETIONS_PATH
from vicuna_server.engine.vllm.events import Event, events
from vicuna_server.engine.vllm.failures import failed_response, unavailable
from vicuna_server.errors import EngineError

__all__ = ["Health", "Served", "VllmClient"]

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request

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
        self._health_seconds = health_seconds
        self._http = httpx.AsyncClient(
            base_url=url,
            trust_env=False,  # a proxy is for other machines
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            headers={"accept-encoding": "identity"},
        )

    async def close(self) -> None:
        """End all connections."""
        await self._http.aclose()

    async def health(self) -> Health:
        """Ask whether the server answers; that says nothing of its engine, which may hang."""
        try:
            response = await self._http.get("/health", timeout=self._health_seconds)
        except httpx.TimeoutException:
            return Health.SILENT
        except httpx.TransportError:
            return Health.DOWN
        return Health.UP if response.status_code == 200 else Health.DOWN

    async def served(self) -> Served:
        """Return what is served.

        Raises:
            OverloadedError: It cannot be asked.
            EngineError: `EngineIncompatible`.
        """
        try:
            response = await self._http.get("/v1/models", timeout=self._health_seconds)
            model = response.json()["data"][0]
            return Served(str(model["id"]), int(model["max_model_len"]))
        except httpx.HTTPError as error:
            raise unavailable(_why(error)) from error
        except (ValueError, LookupError, TypeError) as error:
            raise EngineError(
                "EngineIncompatible",
                "--engine-url answers, but its /v1/models does not tell max_model_len as vLLM does; name a vLLM server",
            ) from error

    async def metrics(self) -> bytes:
        """Return the exposition text; nothing where it cannot be had, or is larger than any."""
        try:
            async with self._http.stream("GET", "/metrics", timeout=METRICS_SECONDS) as response:
                text = b""
                async for piece in response.aiter_raw():
                    text += piece
                    if len(text) > MOST_METRICS:
                        return b""
                return text if response.status_code == 200 else b""
        except httpx.HTTPError:
            return b""

    async def whole(self, body: Mapping[str, object]) -> Any:
        """Return the JSON of an answer that is no stream.

        Raises:
            RequestError: vLLM refuses the request.
            OverloadedError: It cannot answer now.
        """
        try:
            response = await self._http.post(COMPLETIONS_PATH, json=body)
        except httpx.HTTPError as error:
            raise unavailable(_why(error)) from error
        if response.status_code != 200:
            raise failed_response(response.status_code, response.content)
        return response.json()

    @asynccontextmanager
    async def streamed(self, body: Mapping[str, object]) -> AsyncIterator[AsyncGenerator[Event, None]]:
        """Ask for a stream; leaving the block closes the connection, at which vLLM stops generating.

        Raises:
            RequestError: vLLM refuses the request.
            OverloadedError: It cannot answer now.
            EngineError: The connection broke behind the head of the response.
        """
        request = self._http.build_request("POST", COMPLETIONS_PATH, content=json.dumps(body), headers=_JSON)
        try:
            response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise unavailable(_why(error)) from error
        try:
            if response.status_code != 200:
                raise failed_response(response.status_code, await response.aread())
            async with aclosing(events(response.aiter_raw())) as stream:
                yield stream
        except httpx.HTTPError as error:
            raise EngineError(
                "EngineLost", f"the vllm engine was lost in the middle of an answer: {_why(error)}"
            ) from error
        finally:
            await response.aclose()


_JSON = {"content-type": "application/json"}


def _why(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return "refuses connections"
    if isinstance(error, httpx.TimeoutException):
        return "does not answer"
    return f"broke the connection ({type(error).__name__})"
