"""Server-sent events: a response that notices at once when its client leaves.

Starlette's StreamingResponse detects a disconnect only in some server versions, and has no keep-alive. Here one task
sends the frames, and another waits for its end, the disconnect and the keep-alive interval.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from pydantic_core import to_json
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
    return b"data: " + to_json(payload) + b"\n\n"


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
        self._started = False
        self._sent = time.monotonic()
        self._writing = asyncio.Lock()  # frames and comments come from two tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        left = asyncio.ensure_future(_disconnected(receive))
        sending = asyncio.ensure_future(self._send_frames(send))
        try:
            async with asyncio.timeout(self._limit):
                await self._watch(sending, left, send)
        except OverloadedError as error:
            await error_response(error)(scope, receive, send)
        except TimeoutError:
            # The server then closes the connection within the body, so the client sees an incomplete response.
            return
        finally:
            left.cancel()
            sending.cancel()
            await asyncio.wait((sending,))
            await self._frames.aclose()

    async def _watch(self, sending: "asyncio.Future[None]", left: "asyncio.Future[None]", send: Send) -> None:
        """Wait until all is sent or the client has left; keep the connection alive meanwhile.

        It wakes once per interval, not once per frame.
        """
        while True:
            silent = time.monotonic() - self._sent
            done, _ = await asyncio.wait(
                (sending, left), timeout=self._keepalive - silent, return_when=asyncio.FIRST_COMPLETED
            )
            if left in done:
                return
            if sending in done:
                sending.result()
                return
            if time.monotonic() - self._sent >= self._keepalive:
                self._sent = time.monotonic()
                if not self._writing.locked():  # else the client does not read
                    await self._write(_KEEPALIVE, send)

    async def _send_frames(self, send: Send) -> None:
        try:
            async for frames in self._frames:
                await self._write(frames, send)
        except OverloadedError as error:
            if not self._started:
                raise
            await self._write(self._failed(error) + DONE, send)  # a comment has brought the head already
        await self._write(b"", send, more=False)

    async def _write(self, body: bytes, send: Send, *, more: bool = True) -> None:
        async with self._writing:
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": body, "more_body": more})
            self._sent = time.monotonic()


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
