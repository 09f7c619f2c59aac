"""Forwards one request to an endpoint, and its response to the client, byte for byte.

Nothing is sent to the client before the first byte of a response has arrived. Until then another endpoint can take the
request. Afterwards, if the server is lost, another endpoint goes on with the stream where one can, or begins it anew
where no event has come; else the stream ends with an error event after the last whole frame.
"""

import logging
from functools import partial

import aiohttp
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.asgi.sse import frame, while_connected
from vicuna_server.connection_errors import CONNECTION_LOST, NOT_SENT
from vicuna_server.errors import RequestError
from vicuna_server.gateway.accounting import Reservation
from vicuna_server.gateway.buffering import Buffer, BufferBudget
from vicuna_server.gateway.candidates import Candidates
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.client import Client, ClientNotReadingError
from vicuna_server.gateway.continued_stream import ContinuedStream
from vicuna_server.gateway.exchange import Exchange
from vicuna_server.gateway.first_event import TRY_ELSEWHERE, refusal_in
from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.hand_over import HandOver
from vicuna_server.gateway.holders import RESPONSES_PATH
from vicuna_server.gateway.meter import Attempt, RequestMeter
from vicuna_server.gateway.request_record import RequestRecord
from vicuna_server.gateway.response_head import BadResponseError, ResponseHead, printable, read_head
from vicuna_server.gateway.stream_state import CONTINUED_PATHS
from vicuna_server.gateway.upstream import Outgoing, Upstream
from vicuna_server.gateway.upstream_errors import gateway_refused, invalid, lost_message, no_response, refused
from vicuna_server.gateway.whole_response import pass_whole, refusal_of, small_response, to_the_end
from vicuna_server.protocol.errors import error_body

__all__ = ["Forward"]

logger = logging.getLogger(__name__)

_MOST_OF_A_REASON = 200


class Forward(Response):
    """The response to one request, which it sends to one endpoint after the other until one responds.

    Args:
        upstream: sends requests to servers.
        model: whose servers get the request.
        outgoing: the request.
        reservation: counts its tokens; closed in the end.
    """

    def __init__(self, upstream: Upstream, model: Model, outgoing: Outgoing, reservation: Reservation) -> None:
        super().__init__()
        self._upstream = upstream
        self._model = model
        self._outgoing = outgoing
        self._place = upstream.holding.place(model, outgoing.key, len(outgoing.body))
        self._record = RequestRecord(upstream.metrics, model, outgoing)
        ask = partial(upstream.usage_queries.ask, model)
        self._meter = RequestMeter(reservation, self._record.count, ask, lambda: self._record.log(self._meter.used))
        goes_on = outgoing.streams and outgoing.path in CONTINUED_PATHS
        buffer = Buffer(upstream.stream_states) if goes_on else None
        self._stream = ContinuedStream(buffer, self._record, model.id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request; when the client disconnects, the connection to the server is closed at once."""
        del scope
        client = Client(send, self._upstream.settings.idle_seconds, self._begin)
        with self._upstream.metrics.in_flight(self._model.id, self._outgoing.key).track_inprogress():
            try:
                await while_connected(receive, self._forward(client))
            except (RequestError, ClientNotReadingError):  # nobody reads the response any more; the connection closes
                if not self._record.status:
                    self._record.begin(499)
            finally:
                self._place.close()
                self._record.end()
                self._stream.close()
                self._meter.close()

    async def _forward(self, client: Client) -> None:
        try:
            if not self._outgoing.continues:  # another server does not keep what it continues
                self._model = await self._place.wait(client.keep_waiting if self._outgoing.streams else None)
        except RequestError as error:
            await client.respond(error_response(error))
            return
        await self._send(client)

    def _begin(self, status: int) -> None:
        """Note that the response begins: the next request that waits for the model may go."""
        self._place.close()
        self._record.begin(status)

    async def _send(self, client: Client) -> None:
        candidates = Candidates(self._upstream, self._model, self._outgoing, self._stream)
        refusal: Response | None = None
        under_way = self._upstream.demand.under_way
        while (endpoint := candidates.take()) is not None:
            if len(candidates.tried) > 1 and not client.started:
                self._record.retried()
            exchange = Exchange(
                self._upstream, endpoint, self._meter, pending=client.started, is_left=candidates.is_left_for
            )
            with under_way(self._model.key):
                async with exchange:
                    try:
                        refusal = await self._try(exchange, client)
                    except CONNECTION_LOST as error:
                        if self._on_lost(exchange.attempt, error):
                            candidates.lost(exchange.endpoint)
                        if client.started and not self._stream.survives:
                            break
                        continue
                    except BadResponseError as error:  # the model's other servers would send the same
                        self._warn(exchange.endpoint, error)
                        exchange.attempt.settle()
                        await self._give_up(client, error)
                        return
            if refusal is None:
                return
        await self._end(client, refusal, len(candidates.tried))

    def _on_lost(self, attempt: Attempt, error: Exception) -> bool:
        """Note that a server is lost; return whether the client got its response."""
        if isinstance(error, NOT_SENT):
            attempt.settle()
        self._upstream.balancer.failed(attempt.endpoint)
        self._warn(attempt.endpoint, error)
        return self._stream.lost(attempt)

    async def _end(self, client: Client, refusal: Response | None, attempts: int) -> None:
        """End the request: no server responds, or goes on."""
        if client.started:
            await self._break_off(client, "upstream_lost", lost_message(self._stream.why_off))
        else:
            await client.respond(refusal or self._no_response(attempts))

    def _no_response(self, attempts: int) -> Response:
        # a model that sleeps has no server that keeps anything
        there = self._upstream.endpoints(self._model) or self._model.autoscaled
        return no_response(self._model, attempts, gone=bool(self._outgoing.continues and there))

    async def _try(self, exchange: Exchange, client: Client) -> Response | None:
        """Send the request to one endpoint, and its response to the client.

        Returns:
            The response of an endpoint that cannot take the request now; None when the client has its response.
        """
        attempt, endpoint = exchange.attempt, exchange.endpoint
        response = await exchange.send(self._model, self._outgoing, self._stream.told())
        if response.status < 500 and response.status != 200:
            attempt.settle()  # a refused request uses no tokens
        if response.status == 401:
            return gateway_refused(self._model, endpoint.url)
        if self._asks_elsewhere(response.status, client):
            refusal, revision = await refusal_of(response, self._model, endpoint.revision)
            self._record.revision = revision or self._record.revision
            return refusal
        head = read_head(response.status, response.headers, endpoint.revision)
        self._record.revision = attempt.revision = head.revision
        if head.is_stream:
            large = self._upstream.large_events if self._outgoing.path == RESPONSES_PATH else BufferBudget(0)
            with large.buffer() as buffer:
                exchange.frames = Frames(attempt.record, buffer.grow, self._stream.on_state)
                return await self._pump(exchange, head, client)
        await self._pass_whole(exchange.content, head, client, attempt)
        return None

    async def _pass_whole(
        self, content: aiohttp.StreamReader, head: ResponseHead, client: Client, attempt: Attempt
    ) -> None:
        """Pass on a response that is no stream; a client that has the head of one gets it as an event."""
        if client.started:
            raise BadResponseError("a server of this model was to go on with a stream, and sent none")
        if not client.waits:
            await pass_whole(content, head, client, self._upstream.buffers, partial(attempt.complete, head.status))
        elif head.status < 400:
            raise BadResponseError("the server of this model sent no stream, though one was asked for")
        else:
            await client.respond(await small_response(content, head) or refused(self._model, head.status))

    async def _pump(self, exchange: Exchange, head: ResponseHead, client: Client) -> Response | None:
        """Pass a stream on; the response of a server that cannot help now, where the first event is an error."""
        hand_over = HandOver(self._upstream, self._model, self._outgoing, self._meter, self._record, self._stream)
        while complete := await exchange.read():
            if not self._stream.is_of(exchange.attempt):
                if (refusal := refusal_in(complete)) is not None:
                    return refusal
                await self._stream.begin(head, client, exchange.attempt)
            await client.write(complete)
            self._stream.passed(complete)
            if not exchange.frames.done:
                await hand_over.look(exchange)
        if not self._stream.is_of(exchange.attempt):
            await self._stream.begin(head, client, exchange.attempt)
        if exchange.frames.counts is None or exchange.frames.counts.final:
            exchange.attempt.settle()
        if exchange.frames.done:
            await to_the_end(exchange.content)
        await client.write(exchange.frames.rest(), more=False)
        return None

    def _asks_elsewhere(self, status: int, client: Client) -> bool:
        """Whether a response with this status means that another server is to be asked."""
        if client.started:  # a server goes on, or refuses to
            return status != 200
        return status in TRY_ELSEWHERE or bool(self._outgoing.continues and status == 404)

    async def _give_up(self, client: Client, error: BadResponseError) -> None:
        if client.started:
            await self._break_off(client, error.code, str(error))
        else:
            await client.respond(invalid(error))

    async def _break_off(self, client: Client, code: str, message: str) -> None:
        """End a stream with an error event, on which OpenAI's clients raise.

        Any other body is left without its end, and the connection closes, so that the client notices.
        """
        self._record.broke()
        if client.streams:
            await client.write(frame(error_body(502, message, code=code)), more=False)

    def _warn(self, endpoint: Endpoint, error: Exception) -> None:
        """Log what a server did; its text is untrusted."""
        why = printable(str(error) or type(error).__name__, _MOST_OF_A_REASON)
        logger.warning("%s of %s: %s", endpoint.url, self._model.id, why)
