"""One request at one server: what is counted of it, its response, and the connection that this comes by."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp

from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.meter import Attempt, RequestMeter
from vicuna_server.gateway.upstream import Outgoing, Upstream

__all__ = ["Exchange"]


class Exchange:
    """An asynchronous context manager, which closes the connection in the end.

    Args:
        upstream: sends the request.
        endpoint: the server.
        meter: of the request.
        pending: see `Attempt.pending`.

    Attributes:
        attempt: what is counted of it.
        frames: of its stream.
        first: of these, those that have come and that the client has not got yet.
    """

    attempt: Attempt
    frames: Frames
    first: bytes = b""

    def __init__(self, upstream: Upstream, endpoint: Endpoint, meter: RequestMeter, *, pending: bool) -> None:
        self._upstream = upstream
        self._ends = AsyncExitStack()
        self._ends.enter_context(upstream.balancer.sending(endpoint))
        self.attempt = self._ends.enter_context(meter.begin(endpoint, pending=pending))
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
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
        response = await self._upstream.post(model, self.attempt, outgoing, state)
        self._response = await self._ends.enter_async_context(response)
        return response

    async def read(self) -> bytes:
        """Return whole frames as they come; empty at the end of the stream."""
        complete, self.first = self.first, b""
        while not complete and not self.frames.done and (data := await self.content.readany()):
            complete = self.frames.feed(data)
        return complete

    async def become(self, other: "Exchange") -> None:
        """Go on as another exchange, whose stream has begun; this one's connection is closed."""
        ends, self._ends = self._ends, other._ends.pop_all()
        self.attempt, self._response = other.attempt, other._response
        self.frames, self.first = other.frames, other.first
        await ends.aclose()
