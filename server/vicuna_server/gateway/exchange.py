"""One request at one server: what is counted of it, its response, and the connection that this comes by."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp

from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.meter import Attempt, RequestMeter
from vicuna_server.gateway.silence import Silence
from vicuna_server.gateway.upstream import Outgoing, Upstream

__all__ = ["Exchange"]

_SILENT = "it is silent, and not among the ready endpoints any more"


class Exchange:
    """An asynchronous context manager, which closes the connection in the end.

    Args:
        upstream: sends the request.
        endpoint: the server.
        meter: of the request.
        pending: see `Attempt.pending`.
        is_left: whether the server of an attempt is lost if it has been silent for long; see `Silence`.

    Attributes:
        attempt: what is counted of it.
        frames: of its stream.
        first: of these, those that have come and that the client has not got yet.
    """

    attempt: Attempt
    frames: Frames
    first: bytes = b""

    def __init__(
        self,
        upstream: Upstream,
        endpoint: Endpoint,
        meter: RequestMeter,
        *,
        pending: bool,
        is_left: Callable[[Attempt], bool] = lambda _: False,
    ) -> None:
        self._upstream = upstream
        self._ends = AsyncExitStack()
        self._ends.enter_context(upstream.balancer.sending(endpoint))
        self.attempt = self._ends.enter_context(meter.begin(endpoint, pending=pending))
        self._response: aiohttp.ClientResponse | None = None
        self._head_limit = asyncio.timeout(None)
        self._silence = Silence(lambda: is_left(self.attempt), self._leave)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._silence.close()
        del self._silence  # the two refer to each other
        await self._ends.aclose()

    @property
    def endpoint(self) -> Endpoint:
        """The server."""
        return self.attempt.endpoint

    @property
    def content(self) -> aiohttp.StreamReader:
        """The body of the response, once that has begun."""
        assert self._response is not None  # noqa: S101  # it was sent
        return self._response.content

    async def send(self, model: Model, outgoing: Outgoing, state: bytes | None) -> aiohttp.ClientResponse:
        """Send the request; return when the head of the response has arrived. As `Upstream.post`."""
        self._silence.begin()
        try:
            async with self._head_limit:
                response = await self._upstream.post(model, self.attempt, outgoing, state)
        except TimeoutError:
            if self._head_limit.expired():
                raise TimeoutError(_SILENT) from None
            raise
        self._silence.end()
        self._response = await self._ends.enter_async_context(response)
        return response

    async def read(self) -> bytes:
        """Return whole frames as they come; empty at the end of the stream.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: one of `CONNECTION_LOST`.
        """
        complete, self.first = self.first, b""
        while not complete and not self.frames.done:
            self._silence.begin()
            data = await self.content.readany()
            self._silence.end()
            if not data:
                break
            complete = self.frames.feed(data)
        return complete

    def _leave(self) -> None:
        """End the wait for a server that is lost: what is awaited of it raises TimeoutError."""
        if self._response is None:
            self._head_limit.reschedule(0)
        else:
            self.content.set_exception(TimeoutError(_SILENT))

    async def become(self, other: "Exchange") -> None:
        """Go on as another exchange, whose stream has begun; this one's connection is closed."""
        ends, self._ends = self._ends, other._ends.pop_all()
        self.attempt, self._response = other.attempt, other._response
        self.frames, self.first = other.frames, other.first
        await ends.aclose()
