"""Requests through a real gateway to real and to broken servers, over real sockets."""

import asyncio
import contextlib
import json
from typing import Any

import httpx
import openai
import pytest

from support.gateway import TINY, chat, chunk, events, faulty, gateway, head, impatient, preferring
from support.serving import NO_TLS, eventually, openai_client, running
from vicuna_contract.demand import Demand
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.catalogue import Model

CHAT = "/v1/chat/completions"
FULL = b'data: {"error":{"message":"the queue is full","type":"ServiceUnavailable","code":503}}\n\n'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'


def _engine(**settings: float) -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{}, {"stream": True, "stream_options": {"include_usage": True}}])
async def test_an_answer_comes_through_byte_for_byte_with_the_servers_headers(fields: dict[str, Any]) -> None:
    async with running(_engine(tokens=5)) as server, gateway() as door, httpx.AsyncClient(verify=NO_TLS) as direct:
        door.route(server.url)
        headers = {"x-request-id": "one"}
        straight = await direct.post(server.url + CHAT, json=chat(**fields), headers=headers)
        through = await door.client.post(CHAT, json=chat(**fields), headers=headers)
        assert through.status_code == 200
        first, then = (json.loads(events(one.text)[0] if fields else one.text) for one in (straight, through))
        came = through.text.replace(str(then["created"]), str(first["created"])).replace(then["id"], first["id"])
        assert came == straight.text
        skip = {"date", "transfer-encoding", "content-length", "connection"}
        assert {k: v for k, v in through.headers.items() if k not in skip} == {
            **{k: v for k, v in straight.headers.items() if k not in skip},
            "x-content-type-options": "nosniff",
        }
        usage = json.loads(events(through.text)[-2] if fields else through.text)["usage"]
        assert door.metric("vicuna_gateway_tokens_total") == usage["total_tokens"] > 5
        await eventually(lambda: door.metric("vicuna_gateway_requests_in_flight") == 0)


async def test_the_official_client_finds_its_own_behaviour() -> None:
    async with running(_engine(tokens=3)) as server, gateway() as door:
        door.route(server.url)
        async with openai_client(door.url) as client:
            messages: list[Any] = [{"role": "user", "content": "one two"}]
            stream = await client.chat.completions.create(model="team/tiny", messages=messages, stream=True)
            text = "".join([part.choices[0].delta.content or "" async for part in stream])
            assert text.split() == ["one", "two", "one"]
            assert (await client.completions.create(model="tiny", prompt="a b c")).choices[0].text
            assert [model.id async for model in client.models.list()] == ["team/tiny"]
            assert (await client.models.retrieve("tiny")).model_dump()["status"] == "ready"
            with pytest.raises(openai.NotFoundError, match="no-such"):
                await client.chat.completions.create(model="no-such", messages=messages)
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model="tiny", messages=messages, temperature=9)
            assert caught.value.param == "temperature"
            door.route()
            with pytest.raises(openai.InternalServerError, match="not ready") as refused:
                await client.chat.completions.create(model="tiny", messages=messages)
            assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "5")


async def test_a_body_is_sent_as_it_came_unless_it_gives_the_long_name() -> None:
    answer = head("application/json", length=2) + b"{}"
    raw = b'{ "model" : "tiny", "big": 12345678901234567890, "odd": "\\ud800", "messages": [] }'
    async with faulty(answer) as server, gateway() as door:
        door.route(server.url)
        headers = {
            "authorization": "Bearer secret",
            "cookie": "a=b",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "content-type": "application/json",
        }
        for body in (raw, raw.replace(b'"tiny"', b'"team/tiny"')):
            assert (await door.client.post(CHAT, content=body, headers=headers)).text == "{}"
        as_it_came, renamed = server.requests
        assert as_it_came.endswith(raw)
        assert json.loads(renamed.partition(b"\r\n\r\n")[2]) == json.loads(raw)
        for request in server.requests:
            lines = request.partition(b"\r\n\r\n")[0].lower()
            assert b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" in lines
            assert b"x-request-id: " in lines
            assert b"secret" not in lines
            assert b"cookie" not in lines


LOST = [
    (),
    (head("text/event-stream"),),
    (head("text/event-stream"), chunk(b'data: {"half')),
    (head("application/json", length=100) + b'{"half',),
]
REFUSED = [
    (head("application/json", status="503 Service Unavailable", length=2) + b"{}",),
    (head("application/json", "retry-after: 1", status="429 Too Many Requests", length=2) + b"{}",),
    (head("application/json", status="500 Internal Server Error", length=2) + b"{}",),  # vLLM while it drains
    (head("text/event-stream"), chunk(FULL + b"data: [DONE]\n\n")),
    (head("text/event-stream"), chunk(FULL[:20]), chunk(FULL[20:])),
]


@pytest.mark.parametrize(("answer", "asked"), [*((each, 1) for each in LOST), *((each, 2) for each in REFUSED)])
async def test_before_its_first_byte_a_request_goes_to_another_server(answer: tuple[bytes, ...], asked: int) -> None:
    async with running(_engine(tokens=2)) as server, faulty(*answer) as broken, gateway() as door:
        door.route(broken.url, server.url)
        body = preferring(broken.url, server.url, stream=True)
        for _ in range(2):
            response = await door.client.post(CHAT, content=body)
            assert (response.status_code, events(response.text)[-1]) == (200, "[DONE]")
        assert len(broken.requests) == asked  # one that was lost comes last; one that was full may have room again
        assert door.metric("vicuna_gateway_retries_total") == asked
        assert door.metric("vicuna_gateway_streams_broken_total") == 0


async def test_a_dead_address_costs_no_request() -> None:
    async with faulty() as dead:
        url = dead.url
    async with running(_engine(tokens=2)) as server, gateway() as door:
        door.route(url, server.url)
        statuses = [(await door.client.post(CHAT, json=chat())).status_code for _ in range(4)]
        assert statuses == [200] * 4


async def test_when_no_server_answers_the_client_is_told_so() -> None:
    async with faulty() as one, faulty() as two, gateway() as door:
        door.route(one.url, two.url)
        response = await door.client.post(CHAT, json=chat())
        assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_failed")
        assert len(one.requests) == len(two.requests) == 1


async def test_the_only_servers_refusal_reaches_the_client_unchanged() -> None:
    body = b'{"error":{"message":"full"}}'
    refusal = head("application/json", "retry-after: 7", status="429 Too Many Requests", length=len(body)) + body
    async with faulty(refusal) as full, gateway() as door:
        door.route(full.url)
        response = await door.client.post(CHAT, json=chat())
        assert (response.status_code, response.headers["retry-after"], response.content) == (429, "7", body)


async def test_an_error_that_begins_a_stream_is_the_response_if_no_other_server_helps() -> None:
    async with faulty(head("text/event-stream"), chunk(FULL)) as full, gateway() as door:
        door.route(full.url)
        response = await door.client.post(CHAT, json=chat(stream=True))
        assert (response.status_code, response.json()["error"]["message"]) == (503, "the queue is full")
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("half", [b"", b'data: {"half'])
async def test_a_server_lost_in_mid_stream_ends_it_with_an_error_behind_a_whole_event(half: bytes) -> None:
    pieces = (head("text/event-stream", "x-vicuna-revision: r1"), chunk(EVENT), *([chunk(half)] if half else []))
    async with faulty(*pieces) as server, gateway() as door:
        door.route(server.url)
        response = await door.client.post(CHAT, json=chat(stream=True))
        first, last = events(response.text)
        assert first.encode() in EVENT
        assert json.loads(last)["error"]["code"] == "upstream_lost"
        assert response.headers["x-vicuna-revision"] == "r1"
        assert door.metric("vicuna_gateway_streams_broken_total") == 1
        async with openai_client(door.url) as client:
            with pytest.raises(openai.APIError, match="lost"):
                async for _ in await client.chat.completions.create(
                    model="tiny", messages=[{"role": "user", "content": "x"}], stream=True
                ):
                    pass


async def test_a_silent_stream_is_lost_and_comments_keep_it(caplog: pytest.LogCaptureFixture) -> None:
    del caplog
    async with faulty(head("text/event-stream"), chunk(EVENT), hold=True) as silent, gateway(idle_seconds=0.3) as door:
        door.route(silent.url)
        response = await door.client.post(CHAT, json=chat(stream=True))
        assert json.loads(events(response.text)[-1])["error"]["code"] == "upstream_lost"
    slow = _engine(tokens=2, tokens_per_second=1)
    async with running(slow, keepalive_seconds=0.1) as server, gateway(idle_seconds=0.5) as door:
        door.route(server.url)
        text = (await door.client.post(CHAT, json=chat(stream=True))).text
        assert events(text)[-1] == "[DONE]"
        assert ": keep-alive" in text


@pytest.mark.parametrize("streams", [True, False])
async def test_when_the_client_leaves_the_server_is_left_at_once(streams: bool) -> None:
    engine = _engine(tokens=10_000, tokens_per_second=20)
    async with running(engine) as server, gateway() as door:
        door.route(server.url)
        request = asyncio.create_task(door.client.post(CHAT, json=chat(stream=streams)))
        await eventually(lambda: engine.stats.running == 1)
        assert door.upstream.demand.stated(lambda _: True) == (Demand(*TINY.key, 1, 0),)
        request.cancel()
        await eventually(lambda: engine.stats.running == 0 and door.upstream.balancer.under_way == 0)
        assert not door.upstream.demand.stated(lambda _: True)
        assert engine.stats.cancelled == 1


async def test_what_has_one_beginning_goes_to_one_server_within_the_bound() -> None:
    engines = [_engine(tokens=10_000, tokens_per_second=20) for _ in range(2)]
    async with running(engines[0]) as one, running(engines[1]) as two, gateway() as door:
        door.route(one.url, two.url)
        tasks = [asyncio.create_task(door.client.post(CHAT, json=chat(stream=True))) for _ in range(6)]
        await eventually(lambda: sum(engine.stats.running for engine in engines) == 6)
        assert sorted(engine.stats.running for engine in engines) == [2, 4]  # 4 is ceil(1.25 * 6 / 2)
        for task in tasks:
            task.cancel()


async def test_conversations_and_sessions_stay_and_vectors_take_turns() -> None:
    answer = head("application/json", length=2) + b"{}"
    async with faulty(answer) as one, faulty(answer) as two, gateway() as door:
        door.route(one.url, two.url)
        turns = [{"role": "user", "content": "one"}]
        for number in range(4):
            await door.client.post(CHAT, json={"model": "tiny", "messages": turns})
            turns += [{"role": "assistant", "content": "so"}, {"role": "user", "content": f"and {number}"}]
        assert sorted(len(server.requests) for server in (one, two)) == [0, 4]
        for number in range(4):
            await door.client.post(CHAT, json=chat(words=f"other {number}"), headers={"X-Session-Id": "a"})
        assert {len(server.requests) for server in (one, two)} in ({0, 8}, {4})
        assert not [request for request in one.requests + two.requests if b"x-session-id" in request.lower()]
        before = len(one.requests)
        for _ in range(4):
            await door.client.post("/v1/embeddings", json={"model": "tiny", "input": "x"})
        assert len(one.requests) == before + 2


async def test_the_header_of_sessions_may_have_another_name_or_none() -> None:
    answer = head("application/json", length=2) + b"{}"
    async with faulty(answer) as one, faulty(answer) as two:
        for name, moves in (("x-chat", True), ("", False)):
            async with gateway(session_header=name) as door:
                door.route(one.url, two.url)
                before = len(one.requests)
                for number in range(16):  # one beginning, sixteen sessions
                    await door.client.post(CHAT, json=chat(), headers={"x-chat": str(number)})
                assert (0 < len(one.requests) - before < 16) is moves


async def test_a_client_that_does_not_read_is_given_up() -> None:
    many = chunk(b"data: " + b"x" * 60_000 + b"\n\n") * 400
    async with faulty(head("text/event-stream"), many, hold=True) as server, gateway(idle_seconds=0.5) as door:
        door.route(server.url)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]), limit=1024)
        body = json.dumps(chat(stream=True)).encode()
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        await asyncio.wait_for(server.gone.wait(), 20)
        await eventually(lambda: door.upstream.balancer.under_way == 0)
        del reader
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"[]", 400, "invalid_value"),
        (b"{}", 400, "invalid_value"),
        (b'{"model": 7}', 400, "invalid_value"),
        (b'{"model": "\\ud800"}', 404, "model_not_found"),
        (b" " * 5000, 413, "body_too_large"),
    ],
)
async def test_a_bad_body_gets_a_clear_answer(content: bytes, status: int, code: str) -> None:
    async with gateway(max_body_bytes=4096 if status == 413 else 2**20) as door:
        response = await door.client.post(CHAT, content=content)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_more_requests_than_it_takes_are_refused() -> None:
    engine = _engine(tokens=10_000, tokens_per_second=20)
    async with running(engine) as server, gateway(max_requests=1) as door:
        door.route(server.url)
        task = asyncio.create_task(door.client.post(CHAT, json=chat(stream=True)))
        await eventually(lambda: engine.stats.running == 1)
        response = await door.client.post(CHAT, json=chat())
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        task.cancel()


async def test_a_model_that_is_not_ready_says_why() -> None:
    async with gateway() as door:
        door.catalogue.put(Model("team", "tiny", "tiny", reason="Merging", message="40 % of the weights are merged"))
        response = await door.client.post(CHAT, json=chat())
        assert response.status_code == 503
        assert "Merging: 40 % of the weights are merged" in response.json()["error"]["message"]
        entry = (await door.client.get("/v1/models")).json()["data"][0]
        assert (entry["id"], entry["status"], entry["reason"]) == (TINY.id, "not ready", "Merging")


async def test_a_stream_that_is_silent_for_long_survives_a_proxy_that_cuts_idle_connections() -> None:
    """The server's comments keep both connections open for four times the proxy's limit of silence."""
    slow = _engine(tokens=2, tokens_per_second=0.5)
    async with running(slow, keepalive_seconds=0.1) as server, gateway() as door, impatient(door.url, 0.5) as proxy:
        door.route(server.url)
        async with httpx.AsyncClient(timeout=30, verify=NO_TLS) as client:
            text = (await client.post(proxy + CHAT, json=chat(stream=True))).text
        assert events(text)[-1] == "[DONE]"
        assert text.count(": keep-alive") >= 10
