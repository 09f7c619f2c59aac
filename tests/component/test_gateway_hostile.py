"""A gateway before a hostile model server: what reaches the client, the log, metrics and memory."""

import asyncio
import itertools
import json
import logging
import random
import socket
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from support.gateway import TINY, Gateway, chat, chunk, events, gateway, head, preferring
from support.hostile import Hostile, Talk, broken_answers, hostile, stream, whole
from support.serving import eventually, openai_client
from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.gateway import whole_response
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.frames import MOST_FRAME_BYTES
from vicuna_server.gateway.keys import KeyRing, hash_of

CHAT = "/v1/chat/completions"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
USAGE = b'{"object":"x","usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
MIB = 2**20


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Hostile, Gateway]]:
    async with hostile() as server, gateway() as door:
        door.route(server.url)
        yield server, door


def _code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def _nobody_is_blamed(door: Gateway) -> None:
    assert door.upstream.balancer._failed == {}
    assert door.metric("vicuna_gateway_retries_total") == 0


async def test_a_servers_headers_do_not_reach_a_client(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair
    evil = [
        *[
            "set-cookie: a=1; Path=/",
            "set-cookie: b=2",
            'clear-site-data: "*"',
            "strict-transport-security: x=99",
        ],
        *["access-control-allow-origin: *", "location: http://evil", "content-security-policy: default-src *"],
        *["refresh: 0;url=http://evil", "www-authenticate: Basic", "x-accel-redirect: /internal", 'alt-svc: h3=":1"'],
        *["x-request-id: forged", "x-evil: a\xe9\xff", "content-type: text/html", "server: x", "connection: close"],
        *["cache-control: no-store", "retry-after: 3", "x-vicuna-revision: r1", "x-content-type-options: sniff"],
    ]
    passed = {"cache-control": "no-store", "retry-after": "3", "x-vicuna-revision": "r1"}
    for answer, kind in (
        (whole(USAGE, *evil), {"content-type": "application/json", "content-length": str(len(USAGE))}),
        (
            head("text/event-stream", *evil) + chunk(EVENT + DONE) + b"0\r\n\r\n",
            {"content-type": "text/event-stream", "transfer-encoding": "chunked", "x-accel-buffering": "no"},
        ),
    ):
        server.answer(answer)
        response = await door.client.post(CHAT, json=chat(), headers={"x-request-id": "mine"})
        own = {"x-content-type-options": "nosniff", "x-request-id": "mine", "date": response.headers["date"]}
        assert dict(response.headers) == passed | kind | own


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello", "101"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 304 x\r\n\r\n", "304"),
        (b"HTTP/1.1 999 x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", "999"),
        (b"HTTP/1.1 600 x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", "600"),
        (whole(b"<script>", kind="text/html"), "text/html"),
        (whole(b"<script>", kind="text/html", status="404 x"), "text/html"),
        (whole(b"x", kind="image/svg+xml"), "image/svg+xml"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "content type none"),
        (whole(b"xxxxx", "content-encoding: gzip"), "compressed"),
        (head("text/event-stream", status="400 x") + chunk(EVENT), "status 400"),
        (head("text/event-stream") + chunk(b"data: " + b"x" * MOST_FRAME_BYTES), "more than 256 KiB"),
    ],
)
async def test_what_is_no_answer_is_told_once_and_no_other_server_computes_it(answer: bytes, said: str) -> None:
    async with hostile(answer) as one, hostile(answer) as two, gateway() as door:
        door.route(one.url, two.url)
        response = await door.client.post(CHAT, json=chat())
        assert _code(response) == (502, "upstream_invalid")
        assert said in response.json()["error"]["message"]
        assert "location" not in response.headers
        assert response.headers["x-content-type-options"] == "nosniff"
        assert len(one.requests) + len(two.requests) == 1
        _nobody_is_blamed(door)


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large", "431 Too Large", "404 x", "418 x"])
async def test_what_a_server_says_of_a_request_is_passed_on_and_not_asked_again(status: str) -> None:
    body = b'{"error":{"message":"no"}}'
    async with (
        hostile(whole(body, status=status)) as one,
        hostile(whole(body, status=status)) as two,
        gateway() as door,
    ):
        door.route(one.url, two.url)
        response = await door.client.post(CHAT, json=chat())
        assert (str(response.status_code), response.content) == (status[:3], body)
        assert len(one.requests) + len(two.requests) == 1
        _nobody_is_blamed(door)


async def test_an_answer_without_content_has_none(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair
    server.answer(b"HTTP/1.1 204 No Content\r\ncontent-type: text/html\r\n\r\n")
    response = await door.client.post(CHAT, json=chat())
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers
    assert "content-type" not in response.headers


@pytest.mark.parametrize(
    "flood",
    [
        itertools.repeat(b"x: " + b"y" * 1000 + b"\r\n"),
        itertools.repeat(b"y" * 60_000),
        [b"x: " + b"y" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n"],
        [b"".join(b"x-%d: 1\r\n" % number for number in range(5000)) + b"content-length: 0\r\n\r\n"],
    ],
)
async def test_a_head_without_end_is_given_up(pair: tuple[Hostile, Gateway], flood: list[bytes]) -> None:
    server, door = pair
    said = 0

    async def act(talk: Talk) -> None:
        nonlocal said
        await talk.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        for piece in flood:
            await talk.say(piece)
            said += len(piece)
            await asyncio.sleep(0)

    server.act = act
    assert _code(await door.client.post(CHAT, json=chat())) == (502, "upstream_failed")
    await eventually(lambda: server.left == 1)
    assert said < 16 * MIB  # most of which never left the kernel


@pytest.mark.parametrize("streams", [True, False])
async def test_interim_answers_without_end_are_given_up(streams: bool) -> None:
    async def act(talk: Talk) -> None:
        while True:
            await talk.say(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.01)

    async with hostile(act=act) as server, gateway(idle_seconds=0.3) as door:
        door.route(server.url, model=Model("team", "tiny", "tiny", max_stream_seconds=0.3 - 30))
        assert _code(await door.client.post(CHAT, json=chat(stream=streams))) == (502, "upstream_failed")


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens":' + b"9" * 400 + b"}",
        b'{"prompt_tokens":' + b"9" * 6000 + b"}",
        b"[" * 100_000,
        b'{"x":' * 300 + b"1",
        b'{"x":"' + b"L" * 100_000 + b'\\u001b[31m","prompt_tokens":1}',
        b'{"prompt_tokens":1e308,"completion_tokens":999999999999,"total_tokens":true}',
    ],
)
async def test_a_forged_usage_is_neither_counted_nor_logged(
    pair: tuple[Hostile, Gateway], caplog: pytest.LogCaptureFixture, usage: bytes, streams: bool
) -> None:
    server, door = pair
    body = b'{"usage":' + usage + b"}"
    server.answer(stream(b"data: " + body + b"\n\n", DONE) if streams else whole(body))
    with caplog.at_level(logging.INFO, ACCESS_LOG):
        response = await door.client.post(CHAT, json=chat())
        assert (response.status_code, body in response.content) == (200, True)
        await eventually(lambda: any(record.name == ACCESS_LOG for record in caplog.records))
    (line,) = [record.getMessage() for record in caplog.records if record.name == ACCESS_LOG]
    assert len(line) < 500
    assert not json.loads(line)["usage"]
    assert door.metric("vicuna_gateway_tokens_total") == 0


async def test_a_servers_words_do_not_make_lines_in_the_log(
    pair: tuple[Hostile, Gateway], caplog: pytest.LogCaptureFixture
) -> None:
    server, door = pair
    forged = b'HTTP/1.1 2OO\x1b[31m {"event":"request","key":"forged"}\r\nx\r\n\r\n'
    for answer in (forged, whole(b"", kind='a\x1b[31m"\t{"event":"request"}' + "z" * 5000)):
        server.answer(answer)
        assert (await door.client.post(CHAT, json=chat())).status_code == 502
    said = [record.getMessage() for record in caplog.records if record.name.startswith("vicuna_server.gateway")]
    assert len(said) == 2
    assert all(line.isprintable() and len(line) < 400 for line in said)


async def test_invented_revisions_stay_few_and_short(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair
    for number in range(100):
        odd = [f"r{number}", f"r{number:07}" + "x" * 4000, f"R-{number}"][number % 3]
        server.answer(whole(USAGE, f"x-vicuna-revision: {odd}"))
        response = await door.client.post(CHAT, json=chat())
        assert ("x-vicuna-revision" in response.headers) == (number % 3 == 0)
    text = door.upstream.metrics.render().decode()
    assert max(map(len, text.splitlines())) < 300
    assert text.count("vicuna_gateway_requests_total{") == 32 + 2  # none, and other
    assert door.metric("vicuna_gateway_requests_total") == 100
    assert door.metric("vicuna_gateway_tokens_total") == 300
    door.catalogue.remove(("team", "tiny"))
    door.upstream.metrics.render()
    assert "tiny" not in door.upstream.metrics.render().decode()


@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
async def test_who_answers_is_told_by_the_pods_name_where_there_is_one(
    pair: tuple[Hostile, Gateway], status: str
) -> None:
    server, door = pair
    door.catalogue.put_endpoints(TINY.key, "slice", [Endpoint(server.url, "0123abcd")])
    for said in ((), ("x-vicuna-revision: feedbeef",)):
        server.answer(whole(USAGE, *said, status=status))
        response = await door.client.post(CHAT, json=chat())
        assert response.headers["x-vicuna-revision"] == "0123abcd"
    text = door.upstream.metrics.render().decode()
    assert 'revision="0123abcd"' in text
    assert "feedbeef" not in text


async def test_a_key_that_is_revoked_leaves_the_metrics() -> None:
    keys = {name: json.dumps({"sha256": hash_of(name)}).encode() for name in ("goes", "stays")}
    async with hostile(whole(USAGE)) as server, gateway(KeyRing.parse(keys)) as door:
        door.route(server.url)
        for name in keys:
            assert (await door.client.post(CHAT, json=chat(), headers={"authorization": f"Bearer {name}"})).is_success
        assert b'key="goes"' in door.upstream.metrics.render()
        door.authentication.ring = KeyRing.parse({"stays": keys["stays"]})
        assert b'key="goes"' in door.upstream.metrics.render()  # its last numbers
        text = door.upstream.metrics.render()
        assert b'key="goes"' not in text
        assert b'key="stays"' in text


async def test_a_refusal_of_another_kind_is_told_in_our_words() -> None:
    page = whole(b"<script>alert(1)</script>", "set-cookie: z=1", status="503 x", kind="text/html")
    endless = head("application/json", status="429 x") + chunk(b"x" * 60_000) * 50
    for refusal, status in ((page, 503), (endless, 429)):
        async with hostile(refusal) as one, hostile(refusal) as two, gateway() as door:
            door.route(one.url, two.url)
            response = await door.client.post(CHAT, json=chat())
            assert _code(response) == (status, "upstream_refused")
            assert b"script" not in response.content
            assert "set-cookie" not in response.headers
            assert len(one.requests) + len(two.requests) == 2
            assert door.upstream.balancer._failed == {}


async def test_an_event_without_end_in_mid_stream_ends_it_with_an_error(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair
    endless = itertools.repeat(chunk(b"z" * 1000))

    async def act(talk: Talk) -> None:
        await talk.say(head("text/event-stream"), chunk(EVENT), chunk(b"data: "))
        await talk.go_on(endless)

    server.act = act
    first, last = events((await door.client.post(CHAT, json=chat(stream=True))).text)
    assert first.encode() in EVENT
    assert json.loads(last)["error"]["code"] == "upstream_invalid"
    await eventually(lambda: server.left == 1)
    _nobody_is_blamed(door)


@pytest.mark.parametrize("cut", [0, 3, 10])
async def test_a_stream_ends_with_done(pair: tuple[Hostile, Gateway], cut: int) -> None:
    server, door = pair
    behind = b"data: after\n\nevent: x\nid: 1\nretry: 1\n\n"
    everything = b"event: y\nretry: 2\n" + EVENT + DONE + behind
    place = everything.index(b"[DONE]") + cut
    server.answer(stream(everything[:place], everything[place:]))
    assert (await door.client.post(CHAT, json=chat(stream=True))).content == b"event: y\nretry: 2\n" + EVENT + DONE


async def test_a_server_that_goes_on_behind_done_is_left_alone(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair

    async def act(talk: Talk) -> None:
        await talk.say(head("text/event-stream"), chunk(EVENT + DONE))
        while True:
            await talk.say(chunk(EVENT))
            await asyncio.sleep(0.05)

    server.act = act
    assert (await door.client.post(CHAT, json=chat(stream=True))).content == EVENT + DONE
    await eventually(lambda: server.left == 1)


async def test_connections_to_a_decent_server_are_used_again() -> None:
    answers = [stream(EVENT, DONE), whole(USAGE), whole(b"x" * 3 * MIB), whole(b"{}", status="400 x")]
    async with hostile(again=True) as server, gateway() as door:
        door.route(server.url)
        for answer in answers * 2:
            server.answer(answer)
            assert (await door.client.post(CHAT, json=chat(stream=True))).status_code in (200, 400)
        assert len(server.requests) == 8
        assert server.connections == 1


async def test_the_end_of_a_stream_may_come_after_its_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_response, "END_SECONDS", 60.0)
    seen = asyncio.Event()

    async def act(talk: Talk) -> None:
        await talk.say(head("text/event-stream"), chunk(EVENT + DONE))
        await seen.wait()
        await talk.say(b"0\r\n\r\n")

    async with hostile(act=act, again=True) as server, gateway() as door:
        door.route(server.url)
        for _ in range(2):
            seen.clear()
            async with door.client.stream("POST", CHAT, json=chat(stream=True)) as response:
                parts = response.aiter_raw()
                assert await anext(parts) == EVENT + DONE  # without waiting for the rest
                seen.set()
                assert [part async for part in parts] == []
            await eventually(lambda: door.upstream.balancer.under_way == 0)
        assert (len(server.requests), server.connections) == (2, 1)


# large responses


async def test_a_large_answer_flows_through_with_its_length_and_usage(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair
    body = b'{"data":"' + random.Random(1).randbytes(3 * MIB).hex().encode() + b'",' + USAGE[1:]
    chunked = b"".join(chunk(body[start : start + 50_000]) for start in range(0, len(body), 50_000))
    for number, answer in enumerate((whole(body), head("application/json") + chunked + b"0\r\n\r\n"), 1):
        server.answer(answer)
        response = await door.client.post(CHAT, json=chat())
        assert (response.status_code, response.content == body) == (200, True)
        assert ("content-length" in response.headers) == (number == 1)
        assert door.metric("vicuna_gateway_tokens_total") == 3 * number
    assert door.upstream.buffers.bytes == 0


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_that_is_stated_too_large_is_refused_once(streams: bool) -> None:
    answer = head("application/json", length=1025 * MIB) + b'{"data":'
    async with hostile(answer) as one, hostile(answer) as two, hostile(answer) as three, gateway() as door:
        door.route(one.url, two.url, three.url)
        response = await door.client.post("/v1/embeddings", json=chat(stream=streams))
        assert _code(response) == (502, "answer_too_large")
        assert "1024 MiB" in response.json()["error"]["message"]
        assert sum(len(server.requests) for server in (one, two, three)) == 1
        _nobody_is_blamed(door)


async def test_an_official_client_asks_once_for_what_nobody_gets(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair
    server.answer(whole(b"<p>", kind="text/html"))
    async with openai_client(door.url, max_retries=2) as client:
        with pytest.raises(openai.InternalServerError, match="text/html"):
            await client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x"}])
    assert len(server.requests) == 1


async def test_an_answer_that_becomes_too_large_is_left_without_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_response, "MOST_BYTES", 4 * MIB)

    async def act(talk: Talk) -> None:
        await talk.say(head("application/json"))
        await talk.go_on(itertools.repeat(chunk(b"x" * 60_000)))

    async with hostile(act=act) as one, hostile(act=act) as two, gateway() as door:
        door.route(one.url, two.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await door.client.post(CHAT, json=chat())
        assert len(one.requests) + len(two.requests) == 1
        assert door.metric("vicuna_gateway_streams_broken_total") == 1
        _nobody_is_blamed(door)


@pytest.mark.parametrize("length", [5 * MIB, None])
async def test_a_large_answer_that_breaks_off_is_seen_to_be_incomplete(length: int | None) -> None:
    part = b"x" * 3 * MIB
    pieces = (head("application/json", length=length), part if length else chunk(part))
    async with hostile(*pieces) as one, hostile(*pieces) as two, gateway() as door:
        door.route(one.url, two.url)
        async with door.client.stream("POST", CHAT, json=chat()) as response:
            assert response.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()
        assert response.num_bytes_downloaded > MIB
        assert len(one.requests) + len(two.requests) == 1
        assert len(door.upstream.balancer._failed) == 1
        assert door.metric("vicuna_gateway_streams_broken_total") == 1


@pytest.mark.parametrize("room", [0, 100, None])
async def test_a_small_answer_that_breaks_off_is_asked_of_another_while_there_is_room(room: int | None) -> None:
    half = head("application/json", length=200_000) + b"x" * 100_000
    async with hostile(half) as broken, hostile(whole(USAGE)) as good, gateway() as door:
        door.route(broken.url)
        if room is not None:
            door.upstream.buffers.most = room
            with pytest.raises(httpx.RemoteProtocolError):
                await door.client.post(CHAT, json=chat())
        else:
            door.route(broken.url, good.url)
            body = preferring(broken.url, good.url)
            for _ in range(2):
                assert (await door.client.post(CHAT, content=body)).content == USAGE
            assert door.metric("vicuna_gateway_retries_total") == 1
        assert door.upstream.buffers.bytes == 0


async def test_clients_that_do_not_read_hold_little_memory() -> None:
    piece = b"x" * 60_000

    async def act(talk: Talk) -> None:
        await talk.say(head("application/json", length=1000 * len(piece)))
        for _ in range(1000):
            await talk.say(piece)

    async with hostile(act=act) as server, gateway(idle_seconds=1) as door:
        door.route(server.url)
        body = json.dumps(chat()).encode()
        request = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
        clients = []
        tracemalloc.start()
        try:
            for _ in range(6):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", int(door.url.rpartition(":")[2])))
                client.sendall(request)
                clients.append(client)
            await eventually(lambda: server.left == 6 and door.upstream.balancer.under_way == 0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            for client in clients:
                client.close()
        assert len(server.requests) == 6
        assert peak < 24 * MIB  # of 6 times 57


# requests


async def test_a_server_learns_nothing_of_a_clients_keys_and_gets_a_small_head(pair: tuple[Hostile, Gateway]) -> None:
    server, door = pair
    server.answer(whole(USAGE))
    secrets = ["authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie", "forwarded", "x-forwarded-for"]
    many = [(f"x-{number}", "1") for number in range(100)]
    headers = [*((name, "SECRET") for name in secrets), *many, ("connection", "x-1"), ("tracestate", "t" * 9000)]
    assert (await door.client.post(CHAT, json=chat(), headers=headers)).status_code == 200
    top = server.requests[0].partition(b"\r\n\r\n")[0].lower()
    names = {line.partition(b":")[0].decode() for line in top.split(b"\r\n")[1:]}
    own = {"x-request-id", "x-vicuna-counting"}
    assert names == {"host", "accept", "accept-encoding", "content-type", "content-length", *own}
    assert b"secret" not in top
    assert b"accept-encoding: identity" in top


async def test_a_server_that_refuses_a_body_before_it_is_there_is_not_blamed() -> None:
    refusal = whole(b'{"error":{"message":"large"}}', "connection: close", status="413 x")
    count = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        writer.write_eof()
        while await reader.read(65536):  # as decent servers do for a moment, so that the answer is not lost
            pass
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server, gateway() as door:
        door.route(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        response = await door.client.post(CHAT, json=chat(words="x" * 3 * MIB))
        assert (response.status_code, response.json()["error"]["message"]) == (413, "large")
        assert count == 1
        _nobody_is_blamed(door)


# random responses


async def test_whatever_a_server_answers_the_gateway_says_something_sensible_and_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hostile() as server, hostile(whole(USAGE)) as good, gateway(idle_seconds=5) as door:
        door.route(server.url)
        door.route(good.url, model=Model("team", "good", "good"))
        for pieces in broken_answers(seed=20, count=250):
            server.answer(*pieces)
            try:
                response = await door.client.post(CHAT, json=chat(stream=True))
            except (httpx.RemoteProtocolError, httpx.ReadError):
                continue  # the response has no end, and the client notices
            assert response.status_code != 500, pieces
            assert 200 <= response.status_code <= 599, pieces
            assert response.headers["x-content-type-options"] == "nosniff"
            if response.status_code == 502:
                assert response.json()["error"]["code"] in ("upstream_failed", "upstream_invalid", "upstream_refused")
        assert (await door.client.post(CHAT, json=chat("good"))).status_code == 200
        await eventually(lambda: door.upstream.balancer.under_way == 0)
        assert door.upstream.buffers.bytes == 0
        assert len(door.upstream.metrics.render()) < 200_000
    assert [record for record in caplog.records if record.exc_info] == []
