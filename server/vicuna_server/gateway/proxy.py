"""One request on its way to an endpoint and its answer on the way back, byte for byte.

Until the first byte of an answer has come nothing is sent to the client, so that another endpoint can still take the
request. Afterwards a lost server ends the stream with an error event behind the last whole frame.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from vicuna_contract.names import REVISION_HEADER
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.signing import not_let_in, signed
from vicuna_server.gateway.upstream import Outgoing, Upstream, answer_headers
from vicuna_server.http.access_log import ACCESS_LOG
from vicuna_server.http.errors import error_response
from vicuna_server.http.sse import frame, while_connected
from vicuna_server.protocol.errors import error_body

__all__ = ["Forward"]

logger = logging.getLogger(__name__)
_access = logging.getLogger(ACCESS_LOG)

_MOST_ANSWER_BYTES = 64 * 2**20
_ELSEWHERE = frozenset({429, 502, 503})
"""Answers of a server that is full, starting or about to stop: another one may do better."""
_LOST = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class _ClientStuckError(Exception):
    """The client has not read for too long."""


@dataclass(slots=True)
class _Sent:
    """How far the answer to the client is.

    Attributes:
        started: its head has been sent.
        status: of the answer; 0: none yet.
        usage: what the answer says it used.
        broken: it ended early.
    """

    started: bool = False
    status: int = 0
    revision: str = ""
    usage: dict[str, object] | None = None
    broken: bool = False


class Forward(Response):
    """The answer to one request: sends it to one endpoint after the other until one answers.

    Args:
        upstream: the way there.
        model: who is meant.
        outgoing: what to send.
    """

    def __init__(self, upstream: Upstream, model: Model, outgoing: Outgoing) -> None:
        super().__init__()
        self._upstream = upstream
        self._model = model
        self._outgoing = outgoing
        self._sent = _Sent()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry it out; when the client leaves, the server's connection is closed at once."""
        patience = self._upstream.settings.idle_seconds

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(patience):  # a client that does not read holds nothing for ever
                    await send(message)
            except TimeoutError:
                raise _ClientStuckError from None

        in_flight = self._upstream.metrics.in_flight.labels(self._model.id, self._outgoing.key)
        with in_flight.track_inprogress():
            try:
                await while_connected(receive, self._answer(scope, receive, send_in_time))
            except (RequestError, _ClientStuckError):  # nobody reads it any more; the connection closes
                if not self._sent.status:
                    self._note(499)
            finally:
                self._log()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        tried: list[Endpoint] = []
        refusal: Response | None = None
        while True:
            endpoint = self._next(tried)
            if endpoint is None:
                answer = refusal or self._unanswered(tried)
                self._note(answer.status_code)
                await answer(scope, receive, send)
                return
            if tried:
                self._upstream.metrics.retried(self._model.id, self._outgoing.key)
            tried.append(endpoint)
            with self._upstream.balancer.sending(endpoint):
                try:
                    refusal = await self._try(endpoint, send)
                except _LOST as error:
                    self._upstream.balancer.failed(endpoint)
                    why = str(error) or type(error).__name__
                    logger.warning("%s of %s: %s", endpoint.url, self._model.id, why)
                    if not self._sent.started:
                        continue
                    await self._break_off(send)
                    return
            if refusal is None:
                return

    def _next(self, tried: list[Endpoint]) -> Endpoint | None:
        """Return who is asked next; the endpoints are looked up anew, they may have changed."""
        if len(tried) >= self._upstream.settings.max_tries:
            return None
        return self._upstream.balancer.pick(self._upstream.endpoints(self._model), tried)

    async def _try(self, endpoint: Endpoint, send: Send) -> Response | None:
        """Send the request to one endpoint and its answer to the client.

        Returns:
            The answer of an endpoint that cannot help now; None when the client has its answer.
        """
        outgoing = self._outgoing
        session = self._upstream.session
        assert session is not None  # noqa: S101  # requests come after `open`
        async with session.post(
            endpoint.url + outgoing.path,
            data=outgoing.body,
            headers=signed(self._upstream.signer, self._model, outgoing.path, outgoing.headers),
            timeout=self._upstream.timeout(self._model, streams=outgoing.streams),
            allow_redirects=False,
        ) as answer:
            if answer.status == 401:
                return not_let_in(self._model, endpoint.url)
            headers = answer_headers(answer.headers)
            self._sent.revision = answer.headers.get(REVISION_HEADER, "")
            if answer.content_type != "text/event-stream":
                body = await _whole(answer)
                if answer.status in _ELSEWHERE:
                    return Response(body, answer.status, headers)
                self._note_usage(body)
                await self._start(send, answer.status, [*_raw(headers), (b"content-length", b"%d" % len(body))])
                await send({"type": "http.response.body", "body": body})
                return None
            await self._pump(answer, headers, send)
            return None

    async def _pump(self, answer: aiohttp.ClientResponse, headers: Mapping[str, str], send: Send) -> None:
        frames = Frames()
        while data := await answer.content.readany():
            if complete := frames.feed(data):
                if not self._sent.started:
                    await self._start(send, answer.status, _raw(headers))
                await send({"type": "http.response.body", "body": complete, "more_body": True})
        if not self._sent.started:
            await self._start(send, answer.status, _raw(headers))
        await send({"type": "http.response.body", "body": frames.rest(), "more_body": False})
        if frames.usage is not None:
            self._count(frames.usage)

    async def _start(self, send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._sent.started = True
        self._note(status)
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _break_off(self, send: Send) -> None:
        """Say in the stream that it broke off; official clients raise on an event with an error object."""
        self._sent.broken = True
        self._upstream.metrics.broke(self._model.id, self._sent.revision, self._outgoing.key)
        message = "the server of this model was lost in the middle of its answer; send the request again"
        body = frame(error_body(502, message, code="upstream_lost"))
        await send({"type": "http.response.body", "body": body, "more_body": False})

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

    def _note_usage(self, body: bytes) -> None:
        try:
            usage = json.loads(body).get("usage")
        except (ValueError, AttributeError, RecursionError):
            return
        if isinstance(usage, dict):
            self._count(usage)

    def _log(self) -> None:
        sent, outgoing = self._sent, self._outgoing
        line: dict[str, object] = {
            "event": "request",
            "id": outgoing.request_id,
            "route": outgoing.path,
            "model": self._model.id,
        }
        line |= {"revision": sent.revision, "key": outgoing.key, "status": sent.status}
        seconds = round(time.monotonic() - outgoing.arrived, 3)
        _access.info("%s", json.dumps({**line, "seconds": seconds, "broken": sent.broken, "usage": sent.usage}))

    def _count(self, usage: dict[str, object]) -> None:
        self._sent.usage = usage
        self._upstream.metrics.used(self._model.id, self._sent.revision, self._outgoing.key, usage)


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """Read an answer that is no stream.

    Raises:
        ValueError: it is larger than 64 MiB.
    """
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > _MOST_ANSWER_BYTES:
            raise ValueError("the answer is larger than 64 MiB")
    return bytes(data)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
