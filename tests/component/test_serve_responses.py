"""`/v1/responses` over HTTP: whole and streamed answers, calls, and the responses that a server keeps."""

import asyncio
import json
import re
from typing import Any

import openai
import pytest

from support.responses import PATH, WEATHER, events, use_words, with_salt
from support.serving import MODEL, Running, eventually, running
from vicuna_server.api.responses.store import StoreLimits
from vicuna_server.engine import Generation, GenerationRequest
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.errors import EngineError, OverloadedError, VicunaError

USER = {"role": "user", "content": "weather?"}


def scripted(**settings: Any) -> ScriptedEngine:
    return ScriptedEngine(ScriptedSettings(**{"tokens": 3, **settings}))


async def post(live: Running, *, salt: str = "a" * 32, **fields: Any) -> dict[str, Any]:
    response = await live.http.post(PATH, json={"model": MODEL, **fields}, headers=with_salt(salt))
    assert response.status_code == 200, response.text
    read: dict[str, Any] = response.json()
    return read


async def stream(live: Running, **fields: Any) -> list[dict[str, Any]]:
    response = await live.http.post(PATH, json={"model": MODEL, "stream": True, **fields}, headers=with_salt())
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events(response.text)


def same(response: dict[str, Any]) -> str:
    """Return a response without what differs from one to the next."""
    return re.sub(r"[a-z]+_[0-9a-f]{44}|(?<=_at': )\d+", "…", str(response))


async def test_the_official_client_gets_a_response() -> None:
    async with running(scripted()) as live:
        response = await live.client.responses.create(model=MODEL, input="one two", instructions="be kind")
        assert (response.status, response.output_text, response.model) == ("completed", "one two one ", MODEL)
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (4, 4, 8)
        assert re.fullmatch("resp_[0-9a-f]{44}", response.id)
        assert re.fullmatch("msg_[0-9a-f]{44}", response.output[0].id or "")


@pytest.mark.parametrize("fields", [{}, {"max_output_tokens": 2}, {"max_output_tokens": 2, "temperature": 0}])
async def test_a_stream_ends_with_the_response_that_a_whole_one_is(fields: dict[str, Any]) -> None:
    async with running(scripted()) as live:
        whole = await post(live, input="one two", **fields)
        told = await stream(live, input="one two", **fields)
        kinds = [event["type"].removeprefix("response.") for event in told]
        words = 2 if fields else 3
        assert kinds == [
            *("created", "in_progress", "output_item.added", "content_part.added"),
            *["output_text.delta"] * words,
            *("output_text.done", "content_part.done", "output_item.done"),
            "incomplete" if fields else "completed",
        ]
        assert [event["sequence_number"] for event in told] == list(range(len(told)))
        assert same(told[-1]["response"]) == same(whole)
        assert "".join(event.get("delta", "") for event in told) == whole["output"][0]["content"][0]["text"]
        assert told[0]["response"]["status"] == told[1]["response"]["status"] == "in_progress"
        assert {event["response"]["id"] for event in told if "response" in event} == {told[-1]["response"]["id"]}
        reason = {"reason": "max_output_tokens"} if fields else None
        assert (whole["incomplete_details"], whole["output"][0]["status"]) == (reason, whole["status"])


async def test_the_clients_helper_follows_a_stream() -> None:
    async with running(scripted()) as live, live.client.responses.stream(model=MODEL, input="one two") as following:
        kinds = [event.type async for event in following]
        assert "response.output_text.delta" in kinds
        assert (await following.get_final_response()).output_text == "one two one "


async def test_log_probabilities_come_where_they_are_asked_for() -> None:
    async with running(scripted()) as live:
        asked: dict[str, Any] = {"input": "one two", "include": ["message.output_text.logprobs"], "top_logprobs": 1}
        whole, told = await post(live, **asked), await stream(live, **asked)
        entries = whole["output"][0]["content"][0]["logprobs"]
        assert [entry["token"] for entry in entries] == ["one ", "two ", "one "]
        assert [len(entry["top_logprobs"]) for entry in entries] == [1, 1, 1]
        deltas = [one for event in told if event["type"].endswith("text.delta") for one in event["logprobs"]]
        done = next(event for event in told if event["type"].endswith("text.done"))
        assert deltas == done["logprobs"] == entries
        plain = await post(live, input="one two")
        assert plain["output"][0]["content"][0]["logprobs"] == []


async def test_reasoning_and_calls_are_items_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    use_words(monkeypatch)
    asked = "thinking hm so answer I look call weather {} call weather {1}"
    async with running(scripted(tokens=12)) as live:
        whole = await post(live, input=asked, tools=[WEATHER])
        kinds = [(item["type"], item["status"]) for item in whole["output"]]
        assert kinds == [(kind, "completed") for kind in ("reasoning", "message", "function_call", "function_call")]
        reasoning, message, call, last = whole["output"]
        assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm so "}]
        assert message["content"][0]["text"] == "I look "
        assert (call["name"], call["arguments"], last["arguments"]) == ("weather", "{}", "{1}")
        assert call["call_id"] != last["call_id"]
        assert whole["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}  # with the mark of its end
        told = await stream(live, input=asked, tools=[WEATHER])
        assert same(told[-1]["response"]) == same(whole)
        pieces = [event for event in told if event["type"] == "response.function_call_arguments.delta"]
        assert [piece["delta"] for piece in pieces] == ["{", "}", "{", "1}"]
        assert [piece["output_index"] for piece in pieces] == [2, 2, 3, 3]
        assert [event["delta"] for event in told if event["type"] == "response.reasoning_text.delta"] == ["hm ", "so "]


async def test_a_cut_call_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    use_words(monkeypatch)
    async with running(scripted()) as live:
        whole = await post(live, input="call weather {}", tools=[WEATHER], max_output_tokens=2)
        assert (whole["status"], whole["output"][0]["status"]) == ("incomplete", "incomplete")
        assert whole["output"][0]["arguments"] == ""


async def test_a_tool_that_is_named_is_called_and_its_result_answered() -> None:
    async with running(scripted()) as live:
        for choice in ("auto", "required", {"type": "function", "name": "weather"}):
            told = await post(live, input="the weather?", tools=[WEATHER], tool_choice=choice)
            (call,) = told["output"]
            assert (call["type"], call["name"], call["arguments"]) == ("function_call", "weather", "{}")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        second = await post(live, input=[result], previous_response_id=told["id"], tools=[WEATHER])
        assert [item["type"] for item in second["output"]] == ["message"]
        assert [item["type"] for item in (await post(live, input="hi", tools=[WEATHER]))["output"]] == ["message"]


async def test_a_schema_is_kept_to() -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    text = {"format": {"type": "json_schema", "name": "place", "schema": schema}}
    async with running(scripted()) as live:
        told = await post(live, input="where?", text=text)
        assert json.loads(told["output"][0]["content"][0]["text"]) == {"city": "Rome"}
        schema["properties"] = {"city": {"$ref": "https://example.org/city"}}
        refused = await live.http.post(PATH, json={"model": MODEL, "input": "where?", "text": text})
        assert (refused.status_code, refused.json()["error"]["param"]) == (
            400,
            "text.format.schema.properties.city.$ref",
        )


async def test_a_conversation_goes_on_by_the_id_of_its_last_response(monkeypatch: pytest.MonkeyPatch) -> None:
    use_words(monkeypatch)
    async with running(scripted()) as live:
        first = await post(live, input="call weather {}", instructions="be kind", tools=[WEATHER])
        result = {"type": "function_call_output", "call_id": "call_0", "output": "it is sunny"}
        second = await post(live, input=[result], previous_response_id=first["id"])
        assert second["previous_response_id"] == first["id"]
        assert second["output"][0]["content"][0]["text"].startswith('<tool_response>{"name": "weather", "content":')
        # the words of the question, of the call and of its result, as text; no instructions
        call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
        told = '<tool_response>{"name": "weather", "content": "it is sunny"}</tool_response>'
        assert second["usage"]["input_tokens"] == len(f"call weather {{}} {call} {told}".split())
        third = await post(live, input="and now", previous_response_id=second["id"])
        assert third["usage"]["input_tokens"] == second["usage"]["input_tokens"] + 3 + 2
        items = (await live.http.get(f"{PATH}/{third['id']}/input_items?order=asc", headers=with_salt())).json()
        kinds = [item["type"] for item in items["data"]]
        assert kinds == ["message", "function_call", "function_call_output", "message", "message"]
        assert items["data"][1] == first["output"][0]
        assert (await live.http.delete(f"{PATH}/{first['id']}", headers=with_salt())).json() == {
            "id": first["id"],
            "object": "response",
            "deleted": True,
        }
        again = await post(live, input="and now", previous_response_id=second["id"])
        assert same(again["output"]) == same(third["output"])  # what came before is whole


async def test_a_kept_response_is_read_as_it_was_made_and_deleted() -> None:
    async with running(scripted()) as live:
        client = live.client.with_options(default_headers=with_salt())
        streamed = await client.responses.create(model=MODEL, input="one", stream=True)
        *_, last = [event async for event in streamed]
        assert last.type == "response.completed"
        assert await client.responses.retrieve(last.response.id) == last.response
        await client.responses.delete(last.response.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await client.responses.retrieve(last.response.id)
        assert gone.value.code == "response_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.responses.delete(last.response.id)


async def test_the_items_that_were_read_come_in_pages() -> None:
    async with running(scripted()) as live:
        given = [{"role": "user", "content": str(number)} for number in range(5)]
        ident = (await post(live, input=given))["id"]
        client = live.client.with_options(default_headers=with_salt())
        listed = [item async for item in client.responses.input_items.list(ident, limit=2)]
        texts = [item.to_dict()["content"][0]["text"] for item in listed]  # type: ignore[index]
        assert texts == ["4", "3", "2", "1", "0"]
        for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("order=x", "order"), ("after=x", "after")):
            refused = await live.http.get(f"{PATH}/{ident}/input_items?{query}", headers=with_salt())
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_another_caller_finds_nothing_and_cannot_tell_that_there_is_something() -> None:
    async with running(scripted()) as live:
        ident = (await post(live, input="secret"))["id"]
        other, missing = with_salt("b" * 32), ident[:-1] + ("0" if ident[-1] != "0" else "1")
        for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
            theirs = await live.http.request(method, f"{PATH}/{ident}{rest}", headers=other)
            nobodys = await live.http.request(method, f"{PATH}/{missing}{rest}", headers=with_salt())
            assert (theirs.status_code, theirs.text) == (nobodys.status_code, nobodys.text)
            assert theirs.status_code == 404
        body = {"model": MODEL, "input": "x", "previous_response_id": ident}
        theirs = await live.http.post(PATH, json=body, headers=other)
        nobodys = await live.http.post(PATH, json={**body, "previous_response_id": missing}, headers=with_salt())
        assert (theirs.status_code, theirs.text) == (nobodys.status_code, nobodys.text)
        assert (await live.http.get(f"{PATH}/{ident}", headers=with_salt())).status_code == 200


async def test_without_a_salt_nothing_is_kept_and_the_reason_is_told() -> None:
    async with running(scripted()) as live:
        response = (await live.http.post(PATH, json={"model": MODEL, "input": "x"})).json()
        assert response["store"] is False
        read = await live.http.get(f"{PATH}/{response['id']}")
        assert (read.status_code, read.json()["error"]["code"]) == (404, "responses_not_kept")
        body = {"model": MODEL, "input": "x", "previous_response_id": response["id"]}
        refused = await live.http.post(PATH, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "responses_not_kept")


@pytest.mark.parametrize(
    ("fields", "limits", "kept"),
    [
        ({}, StoreLimits(), True),
        ({"store": True}, StoreLimits(), True),
        ({"store": False}, StoreLimits(), False),
        ({}, StoreLimits(responses=0), False),
        ({"input": "x " * 3000}, StoreLimits(size=20_000), False),
    ],
)
async def test_a_response_says_whether_it_is_kept(fields: dict[str, Any], limits: StoreLimits, kept: bool) -> None:
    async with running(scripted(), kept_responses=limits) as live:
        response = await post(live, **{"input": "x", **fields})
        read = await live.http.get(f"{PATH}/{response['id']}", headers=with_salt())
        assert (response["store"], read.status_code) == (kept, 200 if kept else 404)
        assert not kept or read.json() == response


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"input": "x " * 5000}, 400, "input", "context_length_exceeded"),
        ({"input": [{"role": "system", "content": "x"}]}, 400, "input", None),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, 400,
         "input.0.content.0.type", "invalid_value"),
        ({"background": True}, 400, "background", "invalid_value"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_is_refused_in_the_routes_own_words(
    fields: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    async with running(scripted()) as live:
        for streams in (False, True):
            body = {"model": MODEL, "input": "x", "stream": streams, **fields}
            refused = await live.http.post(PATH, json=body)
            error = refused.json()["error"]
            assert (refused.status_code, error["param"], error["code"]) == (status, param, code)
            assert "messages" not in error["message"].split(":")[0]


async def test_a_long_conversation_is_trimmed_where_it_may_be() -> None:
    async with running(scripted(context_length=40)) as live:
        given = [{"role": "user", "content": "old " * 30}, {"role": "assistant", "content": "yes"}, USER]
        body = {"model": MODEL, "input": given, "truncation": "auto"}
        response = await live.http.post(PATH, json=body, headers=with_salt())
        assert (response.status_code, response.headers["x-vicuna-trimmed-messages"]) == (200, "2")
        items = (await live.http.get(f"{PATH}/{response.json()['id']}/input_items", headers=with_salt())).json()
        assert len(items["data"]) == 3  # what is kept is what was sent
        refused = await live.http.post(PATH, json={**body, "truncation": "disabled", "max_output_tokens": 30})
        assert refused.json()["error"]["code"] == "context_length_exceeded"


async def test_a_silent_stream_gets_comments_and_its_first_events_come_with_the_text() -> None:
    async with running(scripted(tokens=1, tokens_per_second=2), keepalive_seconds=0.05) as live:
        text = (await live.http.post(PATH, json={"model": MODEL, "input": "x", "stream": True})).text
        assert text.startswith(": keep-alive\n\n")
        head = text[: text.index("event: response.created")]
        assert set(head.split("\n\n")) == {": keep-alive", ""}
        first, _, _ = text[len(head) :].partition(": keep-alive")
        assert "event: response.output_text.delta" in first  # nothing came before the first text
        assert events(text)[0]["sequence_number"] == 0


FAST = ScriptedSettings(tokens=10**9, tokens_per_second=200, context_length=10**9)
SLOW = ScriptedSettings(tokens=10**9, tokens_per_second=0.01, context_length=10**9)


class _Breaking(ScriptedEngine):
    """Fails every request but the smoke test: after so many seconds, behind its first text or before it."""

    def __init__(self, error: VicunaError, *, behind: bool, seconds: float = 0.2) -> None:
        super().__init__(FAST)
        self._error = error
        self._behind = behind
        self._seconds = seconds

    async def submit(self, request: GenerationRequest) -> Generation:
        smoke = request.max_tokens == 1
        self._settings = FAST if smoke or self._behind else SLOW
        generation = await super().submit(request)
        if not smoke:
            asyncio.get_running_loop().call_later(self._seconds, self._fail, generation)
        return generation

    def _fail(self, generation: Generation) -> None:
        generation.push(self._error)
        if generation.on_cancel is not None:
            generation.on_cancel()


@pytest.mark.parametrize("behind", [True, False])
async def test_a_failure_in_mid_stream_is_an_error_and_a_failed_response(behind: bool) -> None:
    async with running(_Breaking(EngineError("GenerationFailed", 'it broke: "x"'), behind=behind)) as live:
        told = await stream(live, input="one")
        error, failed = told[-2:]
        assert (error["type"], error["code"], error["message"]) == ("error", "GenerationFailed", 'it broke: "x"')
        assert error["error"]["message"] == error["message"]
        assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
        assert failed["response"]["error"] == {"code": "server_error", "message": 'it broke: "x"'}
        assert (failed["response"]["store"], told[0]["type"] == "response.created") == (False, behind)
        with pytest.raises(openai.APIError, match='it broke: "x"'):
            async for _ in await live.client.responses.create(model=MODEL, input="one", stream=True):
                pass
        with pytest.raises(openai.InternalServerError):
            await live.client.responses.create(model=MODEL, input="one")
        await eventually(lambda: live.engine.stats.running == 0)


async def test_what_cannot_be_answered_now_is_a_status_before_the_head_and_named_events_behind_it() -> None:
    error = OverloadedError("gone", status=503, code="engine_unavailable")
    body = {"model": MODEL, "input": "one", "stream": True}
    async with running(_Breaking(error, behind=False)) as live:
        assert (await live.http.post(PATH, json=body)).status_code == 503
    async with running(_Breaking(error, behind=False), keepalive_seconds=0.05) as live:
        told = await stream(live, input="one")
        assert [event["type"] for event in told] == ["error", "response.failed"]
        assert told[0]["code"] == "engine_unavailable"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_client_that_leaves_stops_its_generation_and_nothing_is_kept(streams: bool) -> None:
    endless = ScriptedEngine(ScriptedSettings(tokens=10**9, tokens_per_second=500, context_length=10**9))
    async with running(endless) as live:
        asking = asyncio.create_task(live.client.responses.create(model=MODEL, input="x", stream=streams, timeout=60))
        if streams:
            response = await asking
            assert isinstance(response, openai.AsyncStream)
            await anext(aiter(response))
            await response.close()
        else:
            await eventually(lambda: live.engine.stats.running == 1)
            asking.cancel()
        await eventually(lambda: live.engine.stats.cancelled == 1)
        assert live.engine.stats.running == 0


async def test_an_answer_ends_where_its_last_events_would_become_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicuna_server.api.responses.route.MAX_ENTRIES", 6)
    endless = ScriptedEngine(ScriptedSettings(tokens=10**9, context_length=10**9))
    async with running(endless) as live:
        with_logprobs = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
        cases: list[tuple[dict[str, Any], int]] = [({}, 6), (with_logprobs, 3)]
        for fields, tokens in cases:
            told = (await stream(live, input="x", **fields))[-1]["response"]
            assert (told["status"], told["usage"]["output_tokens"]) == ("incomplete", tokens)
            whole = await post(live, input="x", **fields)
            assert (whole["status"], whole["usage"]["output_tokens"]) == ("incomplete", tokens)
