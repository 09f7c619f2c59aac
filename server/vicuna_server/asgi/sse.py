"""Server-sent events: a response that notices at once when its client leaves.

Starlette's StreamingResponse detects a disconnect only in some server versions, and has no keep-alive. This one waits
for the next frame, the disconnect and the keep-alive interval at the same time.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import OverloadedError, RequestError, VicunaError
from vicuna_server.protocol.errors import error_of

__all__ = ["DONE", "EventStream", "error_frames", "frame", "named_frame", "while_connected"]

DONE = b"data: [DONE]\n\n"
_KEEPALIVE = b": keep-alive\n\n"

Result = TypeVar("Result")


def frame(payload: object) -> bytes:
    """Return one event with a JSON payload."""
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def named_frame(event: Mapping[str, object]) -> bytes:
    """Return one event of `/v1/responses`, which tells its type twice: in its JSON and as the event's name."""
    return b"event: %b\n" % str(event["type"]).encode() + frame(event)


def error_frames(error: VicunaError) -> bytes:
    """Return an error as an event; official clients raise on an event with an error object."""
    return frame(error_of(error)[1])


class EventStream(Response):
    """Sends the frames of an async generator and closes it when the client leaves.

    The head goes out with the first bytes of the body, so that what cannot be answered now can still be a 503.

    Args:
        frames: Yields encoded events; its `finally` runs when the stream ends, for whatever reason. Before the first it
            may raise OverloadedError.
        keepalive: Seconds of silence after which an SSE comment is sent.
        limit: Seconds after which the stream ends, so that a client that does not read cannot hold a place.
        headers: Headers to add.
        failed: Makes the frames of an error behind the head.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        keepalive: float,
        limit: float,
        headers: Mapping[str, str] | None = None,
        failed: Callable[[VicunaError], bytes] = error_frames,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._frames = frames
        self._keepalive = keepalive
        self._limit = limit
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        left = asyncio.ensure_future(_disconnected(receive))
        try:
            async with asyncio.timeout(self._limit):
                await self._pump(left, send)
        except OverloadedError as error:
            await error_response(error)(scope, receive, send)
        except TimeoutError:
            # The server then closes the connection within the body, so the client sees an incomplete response.
            return
        finally:
            left.cancel()
            await self._frames.aclose()

    async def _pump(self, left: "asyncio.Future[None]", send: Send) -> None:
        pending: asyncio.Future[Any] | None = None
        started = False
        try:
            while True:
                pending = pending or asyncio.ensure_future(anext(self._frames, None))
                done, _ = await asyncio.wait(
                    (pending, left), timeout=self._keepalive, return_when=asyncio.FIRST_COMPLETED
                )
                if left in done:
                    return
                body = _KEEPALIVE
                if pending in done:
                    body, pending = self._result(pending, started=started), None
                if not started:
                    started = True
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                if body is None:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.wait((pending,))

    def _result(self, pending: "asyncio.Future[Any]", *, started: bool) -> Any:
        """Return the frames that came; behind the head, which a comment may have brought, an error is an event."""
        try:
            return pending.result()
        except OverloadedError as error:
            if not started:
                raise
            return self._failed(error) + DONE


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the work's result; a client that leaves ends the work. The request's body must have been read.

    Raises:
        RequestError: `client_left`, for the log; the client does not get it.
    """
    working = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_disconnected(receive))
    try:
        done, _ = await asyncio.wait((working, left), return_when=asyncio.FIRST_COMPLETED)
        if working in done:
            return working.result()
        raise RequestError("the client closed the connection before the response was complete", code="client_left")
    finally:
        left.cancel()
        working.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
