"""Limits of clients with and without a key, over real sockets: heads, bodies, connections, time."""

import asyncio
import contextlib
import json
import socket
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from support.gateway import Gateway, chat, chunk, events, faulty, gateway, head
from support.raw import CHAT, connected, error, exchange, request, status, until_closed
from support.serving import eventually, running
from vicuna_server.asgi.heads import HEAD_BYTES, MOST_HEADERS
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.connection import Connection
from vicuna_server.gateway.keys import KeyRing, hash_of

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
MIB = 2**20


def _ring(*names: str, **fields: object) -> KeyRing:
    return KeyRing.parse(
        {name: json.dumps({"sha256": hash_of(name), **fields}).encode() for name in names or ("alice",)}
    )


def _bearer(name: str = "alice") -> str:
    return f"authorization: Bearer {name}"


async def _well(door: Gateway) -> None:
    assert (await door.client.get("/livez")).status_code == 200


FAT = "a" * 1000
HEADS = {
    "a long URL": [b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"],
    "a long header": [b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 70_000 + b"\r\n\r\n"],
    "a long name": [b"GET / HTTP/1.1\r\nhost: x\r\n" + b"b" * 70_000 + b": a\r\n\r\n"],
    "many headers": [request(None, *(f"a-{n}: b" for n in range(MOST_HEADERS + 1)), method="GET", path="/livez")],
    "large headers": [request(None, *(f"a-{n}: {FAT}" for n in range(70)), method="GET", path="/livez")],
    "in pieces": [b"GET / HTTP/1.1\r\nhost: x\r\n", *[b"a: " + b"b" * 5000 + b"\r\n"] * 15],
    "one line in pieces": [b"GET / HTTP/1.1\r\nhost: x\r\na: ", *[b"b" * 5000] * 15],
    "behind a request": [
        request(None, method="GET", path="/livez") + b"GET / HTTP/1.1\r\na: " + b"b" * 200_000,
    ],
}


@pytest.mark.parametrize("kind", HEADS)
async def test_a_head_without_end_is_a_431_and_the_connections_end(kind: str) -> None:
    async with gateway() as door:
        answer = await exchange(door.url, *HEADS[kind])
        last = answer[answer.rindex(b"HTTP/1.1 ") :]
        assert (status(last), error(last)["code"]) == (431, "head_too_large")
        assert b"connection: close" in last
        assert (status(answer) == 200) == (kind == "behind a request")
        assert door.metric("vicuna_gateway_refused_total") == 1
        await _well(door)


async def test_a_head_within_its_bounds_is_taken() -> None:
    plain = len(request(None, "a: ", "connection: close", method="GET", path="/livez"))
    fits = request(None, f"a: {'b' * (HEAD_BYTES - plain)}", "connection: close", method="GET", path="/livez")
    many = request(
        None, *(f"a-{n}: b" for n in range(MOST_HEADERS - 2)), "connection: close", method="GET", path="/livez"
    )
    async with gateway() as door:
        assert [status(await exchange(door.url, one)) for one in (fits, fits[:1000] + fits[1000:], many)] == [200] * 3


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", 0),
        (b"POST /v1/ch", 408),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", 408),
        (request(b"{", length=500), 408),
        (request(b"5\r\n{", "transfer-encoding: chunked").replace(b"content-length: 4\r\n", b""), 408),
    ],
)
async def test_what_does_not_arrive_in_time_is_given_up_and_the_connection_closed(sent: bytes, answered: int) -> None:
    async with gateway(head_seconds=0.2, body_seconds=0.2) as door:
        answer = await exchange(door.url, sent)
        assert (status(answer) if answer else 0) == answered
        async with connected(door.url) as (reader, writer):  # the same of a connection that was used before
            writer.write(request(None, method="GET", path="/livez"))
            await reader.readuntil(b"ok\n")
            writer.write(sent)
            answer = await asyncio.wait_for(until_closed(reader), 30)
            assert (status(answer) if answer else 0) == answered
        await eventually(lambda: len(door.limits) == 0)


@pytest.mark.parametrize("size", [100, 300_000, 4 * MIB])
async def test_a_body_without_a_key_is_not_read_on_and_its_refusal_is_seen(size: int) -> None:
    async with gateway(_ring()) as door:
        response = await door.client.post(CHAT, content=b"x" * size)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")

        async with connected(door.url) as (reader, writer):
            writer.write(request(b"{", length=10**9))
            answer = await asyncio.wait_for(reader.readuntil(b'"code":"invalid_api_key"}}'), 30)
            assert b"connection: close" in answer
            assert await _push(writer, 200 * MIB) < 64 * MIB


async def _push(writer: asyncio.StreamWriter, most: int) -> int:
    """Write until the connection ends; return how much that was."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
    return sent


async def test_an_answer_before_the_end_of_its_request_ends_the_connection() -> None:
    async with gateway() as door:
        for path in ("/livez", "/", "/no-such"):
            answer = await exchange(door.url, request(b"{", length=10**6, path=path))
            assert status(answer) in (404, 405)
            assert b"connection: close" in answer


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_stream_over_http_1_0_is_not_chunked(version: str) -> None:
    body = json.dumps(chat(stream=True)).encode()
    async with running(ScriptedEngine(ScriptedSettings(tokens=3))) as server, gateway() as door:
        door.route(server.url)
        answer = await exchange(door.url, request(body, "connection: close", version=version))
        lines, _, came = answer.partition(b"\r\n\r\n")
        assert (b"chunked" in lines) == (version == "1.1")
        if version == "1.0":
            assert came.startswith(b"data: {")
            assert came.endswith(b"data: [DONE]\n\n")
            whole = await exchange(door.url, request(json.dumps(chat()).encode(), version="1.0"))
            assert json.loads(whole.partition(b"\r\n\r\n")[2])["object"] == "chat.completion"


async def test_requests_behind_one_another_are_answered_in_turn_and_not_without_bound() -> None:
    get = request(None, method="GET", path="/livez")
    last = request(None, "connection: close", method="GET", path="/livez")
    async with gateway() as door:
        assert (await exchange(door.url, get * 3 + last)).count(b"200 OK") == 4
        many = await exchange(door.url, get * 10_000)
        assert 1 <= many.count(b"200 OK") <= 16
        assert b"connection: close" in many
        async with connected(door.url) as (reader, writer):
            writer.write(get)
            await reader.readuntil(b"ok\n")
            writer.write(get + request(b"x" * 200_000))
            large = await asyncio.wait_for(until_closed(reader), 30)
            assert large.count(b"HTTP/1.1 ") == 1
        await eventually(lambda: len(door.limits) <= 1)


async def test_noise_is_a_400_in_openais_shape_and_breaks_into_no_answer() -> None:
    body = json.dumps(chat(stream=True)).encode()
    async with faulty(head("text/event-stream"), chunk(EVENT), hold=True) as server, gateway(idle_seconds=1) as door:
        door.route(server.url)
        answer = await exchange(door.url, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert (status(answer), error(answer)["code"]) == (400, "invalid_http")
        async with connected(door.url) as (reader, writer):
            writer.write(request(body))
            await reader.readuntil(EVENT)
            writer.write(b"noise\r\n\r\n" * 100)
            assert b"HTTP/1.1" not in await asyncio.wait_for(until_closed(reader), 30)


async def test_bodies_under_way_are_bounded_in_all_and_for_each_key() -> None:
    ring = _ring("alice", "bob")
    answer = head("application/json", length=2) + b"{}"
    async with faulty(answer) as server, gateway(ring, max_body_memory=MIB, max_body_bytes=MIB) as door:
        door.route(server.url)
        half = request(b'{"x":"' + b"x" * 400_000, _bearer("alice"), length=600_000)
        more = request(b"x" * 200_000, _bearer("alice"), length=300_000)
        async with connected(door.url) as (_, first), connected(door.url) as (other, second):
            first.write(half)
            capacity = _capacity(door)
            await eventually(lambda: capacity.bytes >= 400_000)
            second.write(more)
            refused = await asyncio.wait_for(until_closed(other), 30)
            assert (status(refused), error(refused)["code"]) == (429, "bodies_too_large")
            assert b"retry-after: 1" in refused

            bobs = request(b"x" * 500_000, _bearer("bob"), length=600_000)
            async with connected(door.url) as (_, third), connected(door.url) as (last, fourth):
                third.write(bobs)
                await eventually(lambda: capacity.bytes >= 900_000)
                fourth.write(request(b"x" * 20_000 + b"x" * 140_000, _bearer("alice"), length=170_000))
                refused = await asyncio.wait_for(until_closed(last), 30)
                assert status(refused) in (429, 503)
        await eventually(lambda: (capacity.bytes, capacity.requests) == (0, 0))
        response = await door.client.post(CHAT, json=chat(), headers={"authorization": "Bearer alice"})
        assert response.status_code == 200
        assert (capacity.bytes, capacity.requests) == (0, 0)


def _capacity(door: Gateway) -> Any:
    app: Any = door.authentication
    while not hasattr(app, "_capacity"):
        app = getattr(app, "_app", None) or app.app
    return app._capacity


async def test_a_request_counts_from_its_admission_on() -> None:
    async with gateway(max_requests=2) as door:
        capacity = _capacity(door)
        async with connected(door.url) as (_, one), connected(door.url) as (_, two):
            for writer in (one, two):
                writer.write(request(b"{", length=500))
            await eventually(lambda: capacity.requests == 2)
            response = await door.client.post(CHAT, json=chat())
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        await eventually(lambda: capacity.requests == 0)
        assert (await door.client.post(CHAT, json=chat())).status_code == 404


@pytest.mark.parametrize("way", ["revoked", "expired", "replaced"])
async def test_a_stream_of_a_key_that_ends_is_ended_with_an_error_event(way: str) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    ring = _ring("alice", "bob", **({"expires": soon} if way == "expired" else {}))
    engine = ScriptedEngine(ScriptedSettings(tokens=100_000, tokens_per_second=50))
    async with running(engine) as server, gateway(ring) as door:
        door.route(server.url)
        async with door.client.stream(
            "POST", CHAT, json=chat(stream=True), headers={"authorization": "Bearer alice"}
        ) as response:
            lines = response.aiter_lines()
            assert (await anext(lines)).startswith("data: ")
            if way == "revoked":
                door.authentication.ring = _ring("bob")
            if way == "replaced":
                other = {"sha256": hash_of("new")}
                door.authentication.ring = KeyRing.parse({"alice": json.dumps(other).encode()})
            rest = [line async for line in lines]
        said = json.loads(events("\n".join(rest))[-1])["error"]
        assert (said["code"], "alice" in said["message"]) == ("invalid_api_key", True)
        assert all(json.loads(each) for each in events("\n".join(rest)))
        await eventually(lambda: engine.stats.running == 0)


async def test_a_stream_goes_on_when_other_keys_change_and_a_whole_answer_of_a_revoked_key_is_a_401() -> None:
    engine = ScriptedEngine(ScriptedSettings(tokens=30, tokens_per_second=20))
    async with running(engine) as server, gateway(_ring("alice", "bob")) as door:
        door.route(server.url)

        def ask(name: str, **fields: Any) -> Any:
            return asyncio.create_task(
                door.client.post(CHAT, json=chat(**fields), headers={"authorization": f"Bearer {name}"})
            )

        kept, ended = ask("alice", stream=True), ask("bob")
        await eventually(lambda: engine.stats.running == 2)
        door.authentication.ring = _ring("alice", models=["*"])
        assert ((await ended).status_code, (await ended).json()["error"]["code"]) == (401, "invalid_api_key")
        assert events((await kept).text)[-1] == "[DONE]"


async def test_gets_have_a_rate_of_their_own() -> None:
    async with gateway(_ring(requestsPerMinute=1), gets_per_minute=3) as door:
        headers = {"authorization": "Bearer alice"}
        seen = [await door.client.get("/v1/models", headers=headers) for _ in range(4)]
        assert [response.status_code for response in seen] == [200, 200, 200, 429]
        assert int(seen[-1].headers["retry-after"]) >= 1
        assert (await door.client.post(CHAT, json=chat(), headers=headers)).status_code == 404
        assert (await door.client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    "name", ["x" * 3_600_000, "\U000e0001" * 900_000, "\x1b[31m\n" * 1000], ids=["long", "tags", "colours"]
)
async def test_a_name_is_not_echoed_whole(name: str) -> None:
    async with gateway() as door:
        body = json.dumps({"model": name}, ensure_ascii=False).encode()
        answers = [await door.client.post(CHAT, content=body)]
        answers.append(await door.client.get("/v1/models/" + "x" * 60_000))
        answers.append(await door.client.get("/" + "x" * 60_000))
        answers.append(await door.client.post("/" + "x" * 60_000))
        for answer in answers:
            assert answer.status_code == 404
            assert len(answer.content) < 600
            assert answer.json()["error"]["message"].isprintable()


async def test_where_all_places_are_taken_the_oldest_stranger_makes_room() -> None:
    """Connections without a request, or with half a head, keep nobody out, and end no request that has a key."""
    pieces = (head("text/event-stream"), chunk(EVENT))
    async with faulty(*pieces, hold=True) as server, gateway(_ring(), max_connections=20) as door:
        door.route(server.url)
        async with contextlib.AsyncExitStack() as held:
            reader, writer = await held.enter_async_context(connected(door.url))
            writer.write(request(json.dumps(chat(stream=True)).encode(), _bearer()))
            await reader.readuntil(EVENT)
            oldest = None
            for number in range(100):
                other, idle = await held.enter_async_context(connected(door.url))
                idle.write(b"GET / HTTP/1.1\r\n" if number % 2 else b"")
                oldest = oldest or other
            assert oldest is not None
            assert await asyncio.wait_for(until_closed(oldest), 30) == b""
            await _well(door)
            models = request(None, _bearer(), "connection: close", method="GET", path="/v1/models")
            assert status(await exchange(door.url, models)) == 200
            assert len(door.limits) <= 20
            assert (_capacity(door).requests, reader.at_eof()) == (1, False)


async def test_one_address_has_its_share_and_forwarded_addresses_count_only_from_trusted_proxies() -> None:
    async with faulty(head("text/event-stream"), chunk(EVENT), hold=True) as server:
        body = json.dumps(chat(stream=True)).encode()
        trusted = (ip_network("127.0.0.2/32"),)
        async with gateway(max_per_address=2, trusted_proxies=trusted) as door:
            door.route(server.url)
            async with connected(door.url) as (a, one), connected(door.url) as (b, two):
                for reader, writer in ((a, one), (b, two)):
                    writer.write(request(body, "x-forwarded-for: 10.0.0.1"))
                    await reader.readuntil(EVENT)
                assert status(await exchange(door.url, b"")) == 503, "both of its places are busy"
                via = [connected(door.url, "127.0.0.2") for _ in range(4)]
                async with via[0] as (c, three), via[1] as (d, four), via[2] as (e, five), via[3] as (f, six):
                    for reader, writer in ((c, three), (d, four)):
                        writer.write(request(body, "x-forwarded-for: 1.2.3.4, 9.9.9.9"))
                        await reader.readuntil(EVENT)
                    five.write(request(body, "x-forwarded-for: 5.6.7.8, 9.9.9.9", "connection: close"))
                    refused = await asyncio.wait_for(until_closed(e), 30)
                    assert (status(refused), "9.9.9.9" in error(refused)["message"]) == (429, True)
                    six.write(request(body, "x-forwarded-for: 9.9.9.9, 5.6.7.8"))
                    await f.readuntil(EVENT)


async def test_the_page_waits_for_its_reader_without_being_held_for_it() -> None:
    """For a client that does not read, two small pieces of the page are buffered; then it is disconnected."""
    async with gateway(idle_seconds=0.5) as door:
        async with connected(door.url) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            get = request(None, method="GET", path="/assets/math.js")
            writer.write(get)
            await eventually(lambda: any(isinstance(each, Connection) for each in door.limits._open))
            (one,) = door.limits._open
            most = 0

            def gone() -> bool:
                nonlocal most
                if len(door.limits) == 1:
                    most = max(most, one.transport.get_write_buffer_size())  # type: ignore[attr-defined]
                writer.write(get)  # the kernel takes some megabytes before it lets the gateway wait
                return len(door.limits) == 0

            await eventually(gone, 60)
            assert most <= 64 * 1024
        page = await door.client.get("/assets/math.js")
        assert page.status_code == 200
        assert len(page.content) > 100_000


async def test_between_two_pieces_of_the_page_for_a_crowd_others_have_their_turns() -> None:
    """After a hundred requests for the page, one for the models gets its response before most of them."""
    page = request(None, "connection: close", method="GET", path="/assets/math.js")
    models = request(None, "connection: close", method="GET", path="/v1/models")
    order: list[str] = []

    async def ask(door: Gateway, what: str, data: bytes) -> None:
        answer = await exchange(door.url, data)
        assert status(answer) == 200
        order.append(what)

    async with gateway() as door:
        crowd = [asyncio.create_task(ask(door, "page", page)) for _ in range(100)]
        await eventually(lambda: len(door.limits) == 100)
        await ask(door, "models", models)
        await asyncio.gather(*crowd)
    assert order.index("models") < 50


async def test_the_kernel_takes_little_for_a_stranger_and_more_for_a_client() -> None:
    sizes = []
    async with gateway(_ring()) as door:
        half = request(b"{", length=500)  # its connection is still there when it has been refused
        for sent, end in ((half, b"}}"), (request(None, _bearer(), method="GET", path="/v1/models"), b"]}")):
            async with connected(door.url) as (reader, writer):
                writer.write(sent)
                await reader.readuntil(end)
                (one,) = door.limits._open
                held = one.transport.get_extra_info("socket")  # type: ignore[attr-defined]
                sizes.append(held.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
            await eventually(lambda: len(door.limits) == 0)
    assert sizes[0] <= 128 * 1024 < sizes[1]


async def test_who_has_shown_no_key_comes_in_anew_for_each_request() -> None:
    get = request(None, method="GET", path="/livez")
    models = request(None, _bearer(), method="GET", path="/v1/models")
    async with gateway(_ring()) as door:
        for first in (get, request(None, method="GET", path="/v1/models")):
            answer = await exchange(door.url, first + models)
            assert answer.count(b"HTTP/1.1 ") == 1
            assert b"connection: close" in answer
        async with connected(door.url) as (reader, writer):
            writer.write(models + get + models)
            for _ in range(2):
                assert b"200 OK" in await reader.readuntil(b"]}")


OFFER = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA")


async def test_who_offers_http_2_is_answered_in_http_1_1_and_the_body_is_read() -> None:
    body = json.dumps(chat()).encode()
    plain = request(body, _bearer(), *OFFER)
    size = b"content-length: %d\r\n" % len(body)
    chunked = plain.replace(size, b"transfer-encoding: chunked\r\n")[: -len(body)]
    chunked += chunk(body[:9]) + chunk(body[9:]) + b"0\r\n\r\n"
    get = request(None, _bearer(), *OFFER, method="GET", path="/v1/models")
    last = request(body, _bearer(), "connection: close")
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as server, gateway(_ring()) as door:
        door.route(server.url)
        for one in (plain, chunked, get):
            for pieces in ([one + last], [one[:-7], one[-7:], last], [one, one, last]):
                answer = await exchange(door.url, *pieces)
                asked = b"".join(pieces).count(b" HTTP/1.1\r\n")
                assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"HTTP/1.1 ") == asked
        assert status(await exchange(door.url, request(b"{", _bearer(), "content-length: 9", *OFFER))) == 400


async def test_the_loop_goes_on_beside_bodies_of_4_mib() -> None:
    """Other tasks run many times during one large body, since it is scanned in short steps."""
    bodies = [
        b'{"model":"tiny","x":[' + b"[]," * (4 * MIB // 3 - 40) + b"[]]}",
        b'{"model":"tiny","x":[' + b"1e1," * (MIB - 40) + b"1]}",
        b'{"model":"tiny","x":[' + (b"9" * 4299 + b",") * 970 + b"1]}",
        b'{"model":"tiny","x":"' + b"\\u0001" * (4 * MIB // 6 - 40) + b'"}',
        b'{"model":"tiny","x":[' + b'"",' * (4 * MIB // 3 - 40) + b'""]}',
    ]
    async with gateway() as door:
        router = _router(door)
        for body in bodies:
            turns, longest, total = 0, 0.0, 0.0
            work = asyncio.ensure_future(router._scanned(body))
            last = time.thread_time()
            while not work.done():
                await asyncio.sleep(0)
                now = time.thread_time()  # CPU time, since other processes run meanwhile
                turns, longest, total = turns + 1, max(longest, now - last), total + now - last
                last = now
            assert (await work).model == "tiny"
            assert turns >= 60
            assert longest <= max(0.05, total / 4), (longest, total)


def _router(door: Gateway) -> Any:
    app: Any = door.authentication
    while not hasattr(app, "routes"):
        app = getattr(app, "_app", None) or app.app
    return next(
        route.endpoint.__self__
        for included in app.routes
        for route in getattr(getattr(included, "original_router", None), "routes", ())
        if getattr(route, "path", "") == CHAT
    )
