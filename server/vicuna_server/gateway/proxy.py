"""One request on its way to an endpoint and its answer on the way back, byte for byte.

Until the first byte of an answer has come nothing is sent to the client, so that another endpoint can still take the
request. Afterwards a lost server ends the stream with an error event behind the last whole frame.
"""

import json
import logging
import time
from dataclasses import dataclass
from functools import partial

import aiohttp
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.asgi.errors import error_response
from vicuna_server.asgi.sse import frame, while_connected
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.accounting import Reservation
from vicuna_server.gateway.answer_head import AnswerHead, BadAnswerError, printable, read_head
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.client import Client, ClientStuckError
from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.lost import LOST, UNSENT
from vicuna_server.gateway.meter import Meter, Try
from vicuna_server.gateway.signing import not_let_in
from vicuna_server.gateway.upstream import Outgoing, Upstream
from vicuna_server.gateway.whole_answer import pass_whole, read_small, to_the_end
from vicuna_server.protocol.counts import Used
from vicuna_server.protocol.errors import error_body

__all__ = ["Forward"]

logger = logging.getLogger(__name__)
_access = logging.getLogger(ACCESS_LOG)

_ELSEWHERE = frozenset({429, 502, 503})
"""Answers of a server that is full, starting or about to stop: another one may do better."""
_MOST_OF_A_REASON = 200


@dataclass(slots=True)
class _Sent:
    """What is noted of the answer to the client.

    Attributes:
        status: of the answer; 0: none yet.
        revision: what answered, as far as is known.
        broken: its server was lost.
        seconds: from the request's arrival to the answer's end.
    """

    status: int = 0
    revision: str = ""
    broken: bool = False
    seconds: float = 0.0


class Forward(Response):
    """The answer to one request: sends it to one endpoint after the other until one answers.

    Args:
        upstream: the way there.
        model: who is meant.
        outgoing: what to send.
        reservation: where its tokens are counted; closed in the end.
    """

    def __init__(self, upstream: Upstream, model: Model, outgoing: Outgoing, reservation: Reservation) -> None:
        super().__init__()
        self._upstream = upstream
        self._model = model
        self._outgoing = outgoing
        self._sent = _Sent()
        self._meter = Meter(reservation, self._count, partial(upstream.usage_queries.ask, model), self._log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry it out; when the client leaves, the server's connection is closed at once."""
        del scope
        client = Client(send, self._upstream.settings.idle_seconds, self._note)
        with self._upstream.metrics.in_flight(self._model.id, self._outgoing.key).track_inprogress():
            try:
                await while_connected(receive, self._answer(client))
            except (RequestError, ClientStuckError):  # nobody reads it any more; the connection closes
                if not self._sent.status:
                    self._note(499)
            finally:
                self._sent.seconds = time.monotonic() - self._outgoing.arrived
                self._meter.close()

    async def _answer(self, client: Client) -> None:
        tried: list[Endpoint] = []
        refusal: Response | None = None
        while (endpoint := self._next(tried)) is not None:
            if tried:
                self._upstream.metrics.retried(self._model.id, self._outgoing.key)
            tried.append(endpoint)
            with self._upstream.balancer.sending(endpoint), self._meter.begin(endpoint) as one:
                try:
                    refusal = await self._try(one, client)
                except LOST as error:
                    if isinstance(error, UNSENT):
                        one.settle()
                    self._upstream.balancer.failed(endpoint)
                    self._warn(endpoint, error)
                    if client.started:
                        await self._break_off(client, "upstream_lost", _LOST_MESSAGE)
                        return
                    continue
                except BadAnswerError as error:  # the model's fault, not this server's: no other would do better
                    self._warn(endpoint, error)
                    one.settle()
                    await self._give_up(client, error)
                    return
            if refusal is None:
                return
        await client.answer(refusal or self._unanswered(tried))

    def _next(self, tried: list[Endpoint]) -> Endpoint | None:
        """Return who is asked next; the endpoints are looked up anew, they may have changed."""
        if len(tried) >= self._upstream.settings.max_tries:
            return None
        return self._upstream.balancer.pick(self._upstream.endpoints(self._model), tried)

    async def _try(self, one: Try, client: Client) -> Response | None:
        """Send the request to one endpoint and its answer to the client.

        Returns:
            The answer of an endpoint that cannot help now; None when the client has its answer.
        """
        async with await self._upstream.post(self._model, one, self._outgoing) as answer:
            if answer.status < 500 and answer.status != 200:
                one.settle()  # it was refused
            if answer.status == 401:
                return not_let_in(self._model, one.endpoint.url)
            if answer.status in _ELSEWHERE:
                return await self._refusal(answer, one.endpoint.revision)
            head = read_head(answer.status, answer.headers, one.endpoint.revision)
            self._sent.revision = one.revision = head.revision
            if head.is_stream:
                await self._pump(answer.content, head, client, one)
            else:
                await pass_whole(answer.content, head, client, self._upstream.held, partial(_told, one, answer.status))
        return None

    async def _refusal(self, answer: aiohttp.ClientResponse, revision: str) -> Response:
        """Return what the client gets where no other server does better."""
        status = answer.status
        try:
            head = read_head(status, answer.headers, revision)
            body = await read_small(answer.content)
        except BadAnswerError:
            body = None
        if body is None:
            message = f"a server of {self._model.id} refused the request with status {status}; try again"
            return error_response(OverloadedError(message, status=status, code="upstream_refused"))
        self._sent.revision = head.revision
        refusal = Response(body, status)
        refusal.raw_headers = [*head.headers, (b"content-length", b"%d" % len(body))]
        return refusal

    async def _pump(self, content: aiohttp.StreamReader, head: AnswerHead, client: Client, one: Try) -> None:
        frames = Frames(one.record)
        while not frames.done and (data := await content.readany()):
            if complete := frames.feed(data):
                if not client.started:
                    await client.start(head)
                await client.write(complete)
        if not client.started:
            await client.start(head)
        if frames.counts is None or frames.counts.final:
            one.settle()
        if frames.done:
            await to_the_end(content)
        await client.write(frames.rest(), more=False)

    async def _give_up(self, client: Client, error: BadAnswerError) -> None:
        if client.started:
            await self._break_off(client, error.code, str(error))
        else:
            response = error_response(RequestError(str(error), status=502, code=error.code))
            response.headers["x-should-retry"] = "false"  # official clients would, twice, and get the same
            await client.answer(response)

    async def _break_off(self, client: Client, code: str, message: str) -> None:
        """Say in a stream that it broke off; official clients raise on an event with an error object.

        Another body is left without its end, and the connection closes: so the client sees that it is not whole.
        """
        self._sent.broken = True
        self._upstream.metrics.broke(self._model.id, self._sent.revision, self._outgoing.key)
        if client.streams:
            await client.write(frame(error_body(502, message, code=code)), more=False)

    def _warn(self, endpoint: Endpoint, error: Exception) -> None:
        """Log what a server did; its words are a stranger's."""
        why = printable(str(error) or type(error).__name__, _MOST_OF_A_REASON)
        logger.warning("%s of %s: %s", endpoint.url, self._model.id, why)

    def _unanswered(self, tried: list[Endpoint]) -> Response:
        if tried:
            return error_response(
                RequestError(
                    f"none of {len(tried)} servers of {self._model.id} answered; try again",
                    status=502,
                    code="upstream_failed",
                )
            )
        why = f"{self._model.reason}: {self._model.message}" if self._model.reason else "none of its servers is ready"
        return error_response(
            OverloadedError(f"{self._model.id} is not ready: {why}", status=503, code="model_not_ready", retry_after=5)
        )

    def _note(self, status: int) -> None:
        self._sent.status = status
        seconds = time.monotonic() - self._outgoing.arrived
        self._upstream.metrics.answered(self._model.id, self._sent.revision, self._outgoing.key, status, seconds)

    def _count(self, one: Try) -> None:
        if one.used is not None:
            self._upstream.metrics.used(self._model.id, one.revision, self._outgoing.key, one.used)

    def _log(self) -> None:
        sent, outgoing, used = self._sent, self._outgoing, self._meter.used
        line: dict[str, object] = {
            "event": "request",
            "id": outgoing.request_id,
            "route": outgoing.path,
            "model": self._model.id,
        }
        line |= {"revision": sent.revision, "key": outgoing.key, "status": sent.status}
        line |= {"seconds": round(sent.seconds, 3), "broken": sent.broken, "usage": used and _usage(used)}
        _access.info("%s", json.dumps(line))


def _told(one: Try, status: int, used: Used | None) -> None:
    """Learn what a whole answer says; one of a server that failed does not say what it has cost."""
    if used is not None:
        one.record(used)
    if status < 500:
        one.settle()


def _usage(used: Used) -> dict[str, int]:
    prompt, completion = used
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


_LOST_MESSAGE = "the server of this model was lost in the middle of its answer; send the request again"
