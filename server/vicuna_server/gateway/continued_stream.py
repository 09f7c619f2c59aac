"""The response that one client gets: from one server, or its stream from several in turn."""

import logging
from collections.abc import Callable, Collection, Sequence

from vicuna_server.gateway.buffering import Buffer
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.client import Client
from vicuna_server.gateway.meter import Attempt
from vicuna_server.gateway.request_record import RequestRecord
from vicuna_server.gateway.response_head import ResponseHead
from vicuna_server.gateway.stream_state import StreamState

__all__ = ["ContinuedStream"]

logger = logging.getLogger(__name__)


class ContinuedStream:
    """Knows whose response the client gets, and what the next server is told where that one is lost.

    Args:
        buffer: for the state; None: no other server is to go on.
        record: of the request.
        model: id of the model.
    """

    def __init__(self, buffer: Buffer | None, record: RequestRecord, model: str) -> None:
        self._buffer = buffer
        self._state = None if buffer is None else StreamState(buffer.grow)
        self._record = record
        self._model = model
        self._current: Attempt | None = None

    def is_of(self, attempt: Attempt) -> bool:
        """Whether the client gets, or got last, what this attempt's server sends."""
        return attempt is self._current

    @property
    def may_go_on(self) -> bool:
        """Whether another server can go on."""
        return self._state is not None and self._state.lasting

    @property
    def survives(self) -> bool:
        """Whether another server can take it where this one is lost: go on, or begin anew where no event has come."""
        return self.may_go_on or self._is_empty

    @property
    def _is_empty(self) -> bool:
        return self._state is not None and self._current is not None and not self._state.events

    @property
    def why_off(self) -> str:
        """Why none can, in words for the client; empty: it is not known."""
        return "" if self._state is None else self._state.why_off

    @property
    def on_state(self) -> Callable[[bytes], None] | None:
        """What takes in the server's comments about the state."""
        return None if self._state is None else self._state.read

    def told(self) -> bytes | None:
        """Return what the next server is told of the state; None: nothing, and it is not asked for its own."""
        if self._state is None:
            return None
        return self._state.written() if self.may_go_on else b""

    def preferred(self, endpoints: Sequence[Endpoint], tried: Collection[Endpoint]) -> Sequence[Endpoint]:
        """Return the endpoints that most surely can go on, those of the lost server's revision; else all."""
        if self._current is None:
            return endpoints
        revision = self._current.endpoint.revision
        return [one for one in endpoints if one.revision == revision and one not in tried] or endpoints

    async def begin(self, head: ResponseHead, client: Client, attempt: Attempt) -> None:
        """Begin to pass a stream on, or go on with that of a server that was lost."""
        earlier, self._current = self._current, attempt
        if earlier is None:
            await client.start(head)
            return
        attempt.go_on(earlier)
        self._record.continued(head.revision)
        logger.warning(
            "%s goes on with a stream of %s after %d events", attempt.endpoint.url, self._model, self._events
        )

    def hand_over(self, attempt: Attempt) -> None:
        """Go on with another server's stream, in place of that of one that stops."""
        assert self._current is not None  # noqa: S101  # the client gets its stream
        earlier, self._current = self._current, attempt
        attempt.go_on(earlier)
        self._record.handed_over(attempt.revision)
        there, here = attempt.endpoint.url, earlier.endpoint.url
        logger.info("%s takes a stream of %s over from %s after %d events", there, self._model, here, self._events)

    @property
    def _events(self) -> int:
        return 0 if self._state is None else self._state.events

    def passed(self, frames: bytes) -> None:
        """Note whole frames that the client has got."""
        if self._state is not None:
            self._state.passed(frames)

    def lost(self, attempt: Attempt) -> bool:
        """Note that an attempt's server is lost; return whether the client got its response."""
        if not self.is_of(attempt):
            return False
        if self.survives:
            attempt.keep()
        if self._buffer is not None and self._is_empty:  # the next server begins anew, and states all anew
            self._buffer.release()
            self._state = StreamState(self._buffer.grow)
        return True

    def close(self) -> None:
        """End it: what is known of the state is dropped."""
        if self._current is not None:
            self._current.give_up()
        if self._buffer is not None:
            self._buffer.release()
