"""Formats over HTTP: what each field gives, what is refused before the first token, and what goes together."""

import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from support.schemas import SCHEMAS
from support.serving import MODEL, Running, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

pytestmark = pytest.mark.long  # a process for each server, which checks schemas
HELLO: Any = [{"role": "user", "content": "one two"}]
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Ulm", "Köln"]}}, "required": ["city"]}


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(ScriptedEngine(ScriptedSettings(tokens=4))) as live:
        yield live


async def chat(server: Running, **fields: Any) -> Any:
    return await server.http.post("/v1/chat/completions", json={"model": MODEL, "messages": HELLO, **fields})


async def text(server: Running, **fields: Any) -> Any:
    return await server.http.post("/v1/completions", json={"model": MODEL, "prompt": "a b", "max_tokens": 99, **fields})


def content(response: Any) -> str:
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


async def test_each_field_on_both_routes(server: Running) -> None:
    for ask in (chat, text):
        for fields in (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
                }
            },
            {"structured_outputs": {"json": SCHEMA}},
            {"guided_json": json.dumps(SCHEMA)},
        ):
            jsonschema.validate(json.loads(content(await ask(server, **fields))), SCHEMA)
        assert isinstance(json.loads(content(await ask(server, response_format={"type": "json_object"}))), dict)
        assert content(await ask(server, structured_outputs={"choice": ["yes", "no"]})) in ("yes", "no")
        assert content(await ask(server, guided_regex="[0-9]{3}")).isdigit()
        assert content(await ask(server, structured_outputs={"grammar": 'start: "x" "y"'})) == "xy"
    assert "one two" in content(await chat(server, response_format={"type": "text"}))


async def test_the_schemas_that_clients_send(server: Running) -> None:
    for schema in SCHEMAS.values():
        answer = json.loads(content(await chat(server, guided_json=schema)))
        jsonschema.validate(answer, schema, format_checker=jsonschema.FormatChecker())


async def test_the_openai_clients_parse(server: Running) -> None:
    class City(BaseModel):
        name: str
        people: int | None

    parsed = await server.client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=City)
    assert isinstance(parsed.choices[0].message.parsed, City)


async def test_a_stream_and_several_choices(server: Running) -> None:
    fields = {"guided_json": SCHEMA, "n": 3, "logprobs": True, "top_logprobs": 1}
    whole = (await chat(server, **fields)).json()
    assert len(whole["choices"]) == 3
    for choice in whole["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
        assert "".join(one["token"] for one in choice["logprobs"]["content"]) == choice["message"]["content"]
    stream = await chat(server, guided_json=SCHEMA, stream=True)
    events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: {")]
    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    jsonschema.validate(json.loads(said), SCHEMA)
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_without_room_ends_with_length(server: Running) -> None:
    cut = (await chat(server, guided_json=SCHEMA, max_tokens=2)).json()["choices"][0]
    assert cut["finish_reason"] == "length"


async def test_echo_repeats_the_prompt_in_front_and_a_prefill_is_gone_on_with(server: Running) -> None:
    echoed = content(await text(server, guided_choice=["yes"], echo=True))
    assert echoed == "a byes"
    prefilled = await chat(server, messages=[*HELLO, {"role": "assistant", "content": "Sure: "}], guided_choice=["yes"])
    assert content(prefilled) == "yes"  # the format is that of what is generated


BAD_SCHEMA = {"type": "object", "properties": {"age": {"type": "integer", "multipleOf": "x"}}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"guided_json": {"properties": {"a": {"uniqueItems": True}}}}, "guided_json.properties.a.uniqueItems"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": BAD_SCHEMA}}},
        "response_format.json_schema.schema.properties.age",
    ),
    ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
    ({"guided_grammar": "nonsense"}, "guided_grammar"),
    ({"guided_json": SCHEMA, "min_tokens": 1}, "min_tokens"),
    ({"guided_json": SCHEMA, "ignore_eos": True}, "ignore_eos"),
    ({"guided_json": SCHEMA, "stop": ["}"]}, "stop"),
]


async def test_what_cannot_be_kept_is_a_400_before_the_first_token(server: Running) -> None:
    before = server.engine.stats.generated_tokens
    for fields, param in REFUSED:
        for response in (
            await chat(server, **fields),
            await chat(server, **fields, n=4, stream=True),
            await text(server, **fields),
            await text(server, **{**fields, "max_tokens": 0, "echo": True}),
        ):
            assert response.status_code == 400, param
            error = response.json()["error"]
            assert error["param"] == param
            assert error["message"].startswith(f"{param}: ")
    assert server.engine.stats.generated_tokens == before
