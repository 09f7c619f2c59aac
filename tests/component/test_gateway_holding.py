"""Requests for models that have no ready server yet, through a real gateway to real and to broken servers."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import openai
import pytest

from support.gateway import TINY, Gateway, chat, chunk, events, faulty, gateway, head, preferring
from support.serving import eventually, openai_client, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

CHAT = "/v1/chat/completions"
COMING = replace(TINY, may_come=True, autoscaled=True, reason="Asleep", message="no request for 300 s")
STALLED = replace(COMING, may_come=False, reason="MergeFailed", message="no space")
MESSAGES: list[Any] = [{"role": "user", "content": "one two"}]


def _engine(**settings: float) -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings(tokens=3, **settings))  # type: ignore[arg-type]


async def _held(door: Gateway, count: int = 1) -> None:
    await eventually(lambda: door.upstream.demand.held(TINY.key) == count)


async def test_a_request_waits_for_its_server_and_the_list_says_so() -> None:
    async with running(_engine()) as server, gateway() as door:
        door.route(model=COMING)

        async def status() -> str:
            return str((await door.client.get("/v1/models")).json()["data"][0]["status"])

        assert await status() == "asleep"
        requests = [asyncio.create_task(door.client.post(CHAT, json=chat(stream=on))) for on in (True, False)]
        await _held(door, 2)
        assert await status() == "waking"
        assert door.metric("vicuna_gateway_requests_held") == 2
        door.route(server.url, model=COMING)
        streamed, whole = [await request for request in requests]
        assert await status() == "ready"
        assert events(streamed.text)[-1] == "[DONE]"
        assert ": waiting" not in streamed.text
        assert streamed.headers["x-vicuna-revision"] == "rev1"
        assert whole.json()["choices"][0]["message"]["content"].split() == ["one", "two", "three"]
        assert door.metric("vicuna_gateway_requests_held") == 0
        assert door.metric("vicuna_gateway_held_seconds_count") == 2


async def test_a_stream_that_waits_long_gets_its_head_and_comments_and_then_its_events() -> None:
    async with running(_engine()) as server, gateway(hold_silent_seconds=0.05) as door:
        door.route(model=COMING)
        async with door.client.stream("POST", CHAT, json=chat(stream=True)) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            lines = response.aiter_lines()
            assert await anext(lines) == ": waiting for a server of this model"
            door.route(server.url, model=COMING)
            text = "\n".join([line async for line in lines])
        assert events(text)[-1] == "[DONE]"
        assert door.metric("vicuna_gateway_tokens_total") > 0
        async with openai_client(door.url) as client:
            door.route(model=COMING)
            asking = asyncio.create_task(client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))
            await _held(door)
            stream = await asking  # the head has come
            door.route(server.url, model=COMING)
            assert "".join([part.choices[0].delta.content or "" async for part in stream]).split() == [
                "one",
                "two",
                "one",
            ]


@pytest.mark.parametrize("silent", [60.0, 0.01])
async def test_who_waits_for_what_cannot_come_gets_its_reason(silent: float) -> None:
    async with gateway(hold_silent_seconds=silent) as door:
        door.route(model=COMING)
        whole = asyncio.create_task(door.client.post(CHAT, json=chat()))
        async with openai_client(door.url) as client:
            asking = asyncio.create_task(client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True))
            await _held(door, 2)
            stream = await asking if silent < 1 else None
            door.route(model=STALLED)
            with pytest.raises(openai.APIError, match="team/tiny is not ready: MergeFailed: no space") as caught:
                async for _ in stream or await asking:
                    pass
            assert isinstance(caught.value, openai.InternalServerError) is (stream is None)
        refused = await whole
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_not_ready")
        assert refused.headers["retry-after"] == "5"
        assert (await door.client.post(CHAT, json=chat())).status_code == 503  # and then nobody waits


async def test_a_whole_response_ends_in_time_and_above_the_bound_at_once() -> None:
    async with gateway(hold_seconds=0.5, max_held=1) as door:
        door.route(model=COMING)
        waiting = asyncio.create_task(door.client.post(CHAT, json=chat()))
        await _held(door)
        refused = await door.client.post(CHAT, json=chat())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_held")
        assert refused.headers["retry-after"] == "5"
        late = await waiting
        assert (late.status_code, late.json()["error"]["code"]) == (503, "model_not_ready")
        assert "Asleep: no request for 300 s" in late.json()["error"]["message"]


@pytest.mark.parametrize("streams", [True, False])
async def test_a_client_that_leaves_is_not_held(streams: bool) -> None:
    async with running(_engine()) as server, gateway(hold_silent_seconds=0.01) as door:
        door.route(model=COMING)
        before = server.engine.stats.finished
        request = asyncio.create_task(door.client.post(CHAT, json=chat(stream=streams)))
        await _held(door)
        request.cancel()
        await _held(door, 0)
        await eventually(lambda: door.metric("vicuna_gateway_requests_total") == 1)
        assert 'status="499"' in door.upstream.metrics.render().decode()
        door.route(server.url, model=COMING)
        assert (await door.client.post(CHAT, json=chat())).status_code == 200
        assert server.engine.stats.finished == before + 1


REFUSALS = [
    ((head("application/json", status="400 Bad Request", length=31) + b'{"error":{"message":"no such"}}',), "no such"),
    ((head("application/json", status="400 Bad Request", length=3) + b"not",), "refused the request"),
    ((head("application/json", status="429 Too Many Requests", length=28) + b'{"error":{"message":"full"}}',), "full"),
    ((head("application/json", length=2) + b"{}",), "sent no stream"),
    ((head("text/html", length=2) + b"{}",), "content type text/html"),
    ((head("text/event-stream"), chunk(b'data: {"error":{"message":"busy","code":503}}\n\n')), "busy"),
    ((), "none of 1 servers of team/tiny responded"),
]


@pytest.mark.parametrize(("answer", "said"), REFUSALS)
async def test_what_the_server_refuses_ends_a_stream_whose_head_has_gone_out(
    answer: tuple[bytes, ...], said: str
) -> None:
    async with faulty(*answer) as server, gateway(hold_silent_seconds=0.01) as door:
        door.route(model=COMING)
        async with door.client.stream("POST", CHAT, json=chat(stream=True)) as response:
            door.route(server.url, model=COMING)
            text = (await response.aread()).decode()
        (event,) = events(text)
        assert said in json.loads(event)["error"]["message"]
        assert len(server.requests) == 1
        assert door.metric("vicuna_gateway_requests_total") == 1
        assert 'status="200"' not in door.upstream.metrics.render().decode()


async def test_before_the_first_byte_a_held_stream_goes_to_another_server() -> None:
    async with faulty() as broken, running(_engine()) as server, gateway(hold_silent_seconds=0.01) as door:
        door.route(model=COMING)
        body = preferring(broken.url, server.url, stream=True)
        async with door.client.stream("POST", CHAT, content=body) as response:
            door.route(broken.url, server.url, model=COMING)
            text = (await response.aread()).decode()
        assert events(text)[-1] == "[DONE]"
        assert len(broken.requests) == 1


async def test_what_continues_a_response_does_not_wait_since_nobody_keeps_it() -> None:
    async with gateway() as door:
        door.route(model=COMING)
        body = {"model": "tiny", "input": "x", "previous_response_id": "resp_" + "0" * 48}
        response = await door.client.post("/v1/responses", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "response_not_found")


async def test_a_model_of_the_command_line_is_never_waited_for() -> None:
    async with gateway() as door:
        door.route()
        response = await door.client.post(CHAT, json=chat())
        assert (response.status_code, response.json()["error"]["code"]) == (503, "model_not_ready")
