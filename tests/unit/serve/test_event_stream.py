"""A stream of events: its head waits for the first text, so that what cannot be answered is still a 503."""

import asyncio
import json
from collections.abc import AsyncGenerator

from starlette.types import Message

from vicuna_server.asgi.sse import EventStream, frame
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


async def test_comments_come_as_long_as_nothing_else_does_and_none_while_the_client_does_not_read() -> None:
    messages: list[Message] = []
    thrice, reads = asyncio.Event(), asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        await thrice.wait()
        yield b"data: 1\n\n"

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        messages.append(message)
        if [one.get("body") for one in messages].count(b": keep-alive\n\n") == 3:
            thrice.set()
        if message.get("body", b"").startswith(b"data"):
            await reads.wait()

    sending = asyncio.create_task(EventStream(frames(), 0.01, 60.0)({"type": "http"}, receive, send))
    await asyncio.wait_for(thrice.wait(), 60)
    await asyncio.sleep(0.1)
    waiting = len(messages)
    await asyncio.sleep(0.1)
    assert (len(messages), messages[-1]["body"]) == (waiting, b"data: 1\n\n")
    reads.set()
    await sending
    assert [message["type"] for message in messages].count("http.response.start") == 1
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_client_that_leaves_ends_the_frames_at_once() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def receive() -> Message:
        await begun.wait()
        return {"type": "http.disconnect"}

    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await EventStream(frames(), 60.0, 60.0)({"type": "http"}, receive, send)
    assert ended.is_set()
    assert [message.get("body") for message in messages] == [None, b"data: 1\n\n"]


def test_an_event_is_one_line_of_json_in_utf_8() -> None:
    said = {"text": '\n\r\u2028\x00\x7f"\\é😀', "numbers": [0, -1.5, 2**53, 1e-7], "others": [None, True, {}]}
    line = frame(said)
    assert (line[:6], line[-2:], line.count(b"\n")) == (b"data: ", b"\n\n", 2)
    assert json.loads(line[6:]) == said
    assert "é😀".encode() in line
    assert frame({"a": [1, None]}) == b'data: {"a":[1,null]}\n\n'
