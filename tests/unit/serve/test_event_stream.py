"""The head of a stream of events: it waits for the first text, so that what cannot be answered is still a 503."""

import asyncio
import json
from collections.abc import AsyncGenerator

from starlette.types import Message

from vicuna_server.asgi.sse import EventStream
from vicuna_server.errors import OverloadedError

AWAY = OverloadedError("the engine is gone; send the request again", status=503, code="engine_unavailable")


async def failing(after: asyncio.Event) -> AsyncGenerator[bytes, None]:
    await after.wait()
    raise AWAY
    yield b""  # which makes it a generator


async def sent(
    frames: AsyncGenerator[bytes, None], keepalive: float = 60.0, commented: asyncio.Event | None = None
) -> list[Message]:
    """Return what a client gets that stays; the event is set when a comment has come."""
    messages: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        messages.append(message)
        if commented is not None and message.get("body", b"").startswith(b":"):
            commented.set()

    await EventStream(frames, keepalive, 60.0)({"type": "http"}, receive, send)
    return messages


async def test_what_cannot_be_answered_before_the_first_frame_has_its_own_status() -> None:
    at_once = asyncio.Event()
    at_once.set()
    head, body = await sent(failing(at_once))
    assert head["status"] == 503
    assert (b"retry-after", b"1") in head["headers"]
    assert json.loads(body["body"])["error"]["code"] == "engine_unavailable"


async def test_behind_a_comment_that_brought_the_head_it_is_an_event() -> None:
    commented = asyncio.Event()
    head, *bodies = await sent(failing(commented), 0.01, commented)
    event, last = (message["body"] for message in bodies if not message["body"].startswith(b":"))
    assert head["status"] == 200
    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"data: [DONE]\n\n")
    assert (last, bodies[-1]["more_body"]) == (b"", False)


async def test_the_head_comes_with_the_first_frame() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"

    head, first, last = await sent(frames())
    assert (head["status"], first["body"], last["more_body"]) == (200, b"data: 1\n\n", False)
