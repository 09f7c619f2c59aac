"""Hands a stream over: the server that it comes from stops, and another one goes on with it.

A server stops where it is not among the model's ready endpoints any more. While another one is asked, the stream waits
in its connection. So the client's place in it is known exactly, and it goes on there if the other one does not take it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from vicuna_server.connection_errors import CONNECTION_LOST, NOT_SENT
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.continued_stream import ContinuedStream
from vicuna_server.gateway.exchange import Exchange
from vicuna_server.gateway.first_event import TRY_ELSEWHERE, error_in
from vicuna_server.gateway.frames import MOST_FRAME_BYTES, Frames
from vicuna_server.gateway.meter import RequestMeter
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.request_record import RequestRecord
from vicuna_server.gateway.response_head import BadResponseError, printable, read_head
from vicuna_server.gateway.stream_state import events_in
from vicuna_server.gateway.upstream import Outgoing, Upstream

__all__ = ["HandOver"]

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds in which another server must send its first event; so long the client gets nothing."""
LOOK_SECONDS = 1.0
"""Between two looks at the endpoints."""
BUSY_SECONDS = 5.0
"""Until a server that had no room is asked again."""
_MOST_OF_A_REASON = 200


class _NotTakenError(Exception):
    """Another server does not take the stream; `status`: of its error, 0: it has stated none."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class HandOver:
    """Of one stream.

    Args:
        upstream: knows models and endpoints, and sends requests.
        model: whose stream it is.
        outgoing: its request.
        meter: of the request.
        record: the same.
        stream: what the client has of it.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        upstream: Upstream,
        model: Model,
        outgoing: Outgoing,
        meter: RequestMeter,
        record: RequestRecord,
        stream: ContinuedStream,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._model = model
        self._outgoing = outgoing
        self._meter = meter
        self._record = record
        self._stream = stream
        self._clock = clock
        self._next_look = clock() + LOOK_SECONDS
        self._since: float | None = None
        self._refused: set[Endpoint] = set()
        self._refusing_revisions: set[str] = set()

    async def look(self, exchange: Exchange) -> None:
        """Let another server take the stream, where its own has stopped for long enough; `exchange` becomes that one's.

        To be called between two pieces of the stream, all of which the client has.
        """
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        if self._is_due(exchange.endpoint, now) and (endpoint := self._other(exchange.endpoint)) is not None:
            await self._ask(endpoint, exchange)

    def _is_due(self, endpoint: Endpoint, now: float) -> bool:
        model = self._upstream.model(self._model.key)  # its fields may have changed
        seconds = None if model is None else model.hand_over_seconds
        if seconds is None or endpoint in self._upstream.endpoints(self._model):
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now >= self._since + seconds and self._stream.may_go_on

    def _other(self, endpoint: Endpoint) -> Endpoint | None:
        """Return whom to ask; None: nobody is left.

        Of another revision if there is any: in a rollout those of the same revision stop next.
        """
        ready = self._upstream.endpoints(self._model)
        left = [one for one in ready if one not in self._refused and one.revision not in self._refusing_revisions]
        others = [one for one in left if one.revision != endpoint.revision]
        return self._upstream.balancer.pick(others or left, [endpoint], self._outgoing.affinity)

    async def _ask(self, endpoint: Endpoint, exchange: Exchange) -> None:
        async with Exchange(self._upstream, endpoint, self._meter, pending=True) as other:
            try:
                await self._begin(other, exchange.frames.grow)
            except _NotTakenError as error:
                if error.status == HTTPStatus.CONFLICT and endpoint.revision != exchange.endpoint.revision:
                    self._refusing_revisions.add(endpoint.revision)
                self._not_taken(other, exchange, error, busy=error.status in TRY_ELSEWHERE)
            except (*CONNECTION_LOST, BadResponseError) as error:
                if isinstance(error, NOT_SENT):
                    self._upstream.balancer.failed(endpoint)
                self._not_taken(other, exchange, error)
            else:
                self._since = None
                await exchange.become(other)

    def _not_taken(self, other: Exchange, exchange: Exchange, error: Exception, *, busy: bool = False) -> None:
        other.attempt.drop()
        self._record.not_handed_over()
        if busy:
            self._next_look = self._clock() + BUSY_SECONDS
        else:
            self._refused.add(other.endpoint)
        why = printable(str(error) or type(error).__name__, _MOST_OF_A_REASON)
        there, here = other.endpoint.url, exchange.endpoint.url
        logger.info("%s does not take a stream of %s over from %s: %s", there, self._model.id, here, why)

    async def _begin(self, other: Exchange, grow: Callable[[int], bool]) -> None:
        """Let a server go on with the stream up to its first event; from then on the client gets this server's.

        Args:
            other: the request at that server.
            grow: the room that the stream has for large events; see `Frames`.

        Raises:
            _NotTakenError: it refuses to.
            BadResponseError: its response is none that is passed on.
            aiohttp.ClientError, OSError, TimeoutError: one of `CONNECTION_LOST`.
        """
        said = _Said()
        other.frames = Frames(other.attempt.record, grow, said.add)
        async with asyncio.timeout(PATIENCE):
            response = await other.send(self._model, self._outgoing, self._stream.told())
            if response.status != 200:
                raise _NotTakenError(f"status {response.status}", response.status)
            head = read_head(response.status, response.headers, other.endpoint.revision)
            other.attempt.revision = head.revision
            other.first = await _first(other)
        self._stream.hand_over(other.attempt)
        said.tell(self._stream, other.frames)


class _Said:
    """What comments state before the stream is the other server's: if it does not become that, nothing of it counts."""

    def __init__(self) -> None:
        self._said: list[bytes] = []
        self._bytes = 0

    def add(self, said: bytes) -> None:
        """Keep what a comment says."""
        self._bytes += len(said)
        if self._bytes > MOST_FRAME_BYTES:
            raise BadResponseError("the comments before its first event are too long")
        self._said.append(said)

    def tell(self, stream: ContinuedStream, frames: Frames) -> None:
        """Tell the stream; what follows in the frames, it is told at once."""
        frames.on_state = stream.on_state
        for said in self._said:
            if frames.on_state is not None:
                frames.on_state(said)


async def _first(other: Exchange) -> bytes:
    """Return whole frames up to an event."""
    first = b""
    while not events_in(first):
        frames = await other.read()
        if not frames:
            raise _NotTakenError("its response ended before an event")
        first += frames
        if len(first) > 2 * MOST_FRAME_BYTES:
            raise BadResponseError("it sent comments alone")
    if (error := error_in(first)) is not None:
        raise _NotTakenError(f"an error event with status {error[0]}", error[0])
    return first
