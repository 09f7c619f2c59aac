"""Tools over HTTP, by the official client: calls are told whole and streamed alike, and text stays text."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import openai
import pydantic
import pytest

from support.saying import SayingEngine
from support.serving import MODEL, Running, running, tiny_engine, write_tiny_model
from support.tool_templates import QWEN_STYLE
from vicuna_server.constraints import CallForm, ToolCalls
from vicuna_server.engine import PreparedPrompt, PromptInput
from vicuna_server.engine.scope import EVERYBODY, CacheScope
from vicuna_server.tools.chat_format import ChatFormat
from vicuna_server.tools.formats import LLAMA, MISTRAL

HELLO: list[Any] = [{"role": "user", "content": "How is the weather?"}]
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "Of a city", "parameters": CITY}}
TIME: Any = {"type": "function", "function": {"name": "time"}}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
SECOND = '<tool_call>{"name": "time", "arguments": {}}</tool_call>'


def letters(text: str, size: int = 3) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


class Thinking(SayingEngine):
    """Its prompts end within reasoning."""

    async def prepare(
        self,
        prompt: PromptInput | PreparedPrompt,
        max_tokens: int | None,
        *,
        trim: bool = False,
        scope: CacheScope = EVERYBODY,
    ) -> PreparedPrompt:
        return replace(await super().prepare(prompt, max_tokens, trim=trim, scope=scope), thinking=True)


async def ask(live: Running, **options: Any) -> Any:
    fields = {"model": MODEL, "messages": HELLO, "tools": [WEATHER, TIME], **options}
    return await live.client.chat.completions.create(**fields)


async def streamed(live: Running, **options: Any) -> dict[str, Any]:
    """Return a choice that its deltas add up to, in the form of a whole one."""
    stream: AsyncIterator[Any] = await ask(live, stream=True, **options)
    text, reasoning, reason, calls = "", "", None, list[dict[str, Any]]()
    async for chunk in stream:
        (choice,) = chunk.choices
        text += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning", None) or ""
        reason = choice.finish_reason or reason
        for call in choice.delta.tool_calls or ():
            if call.index == len(calls):
                calls.append({"id": call.id, "type": call.type, "name": call.function.name, "arguments": ""})
            assert call.index == len(calls) - 1
            calls[-1]["arguments"] += call.function.arguments
    return {"text": text, "reasoning": reasoning, "reason": reason, "calls": calls}


def told(choice: Any) -> dict[str, Any]:
    calls = [
        {"id": one.id, "type": one.type, "name": one.function.name, "arguments": one.function.arguments}
        for one in choice.message.tool_calls or ()
    ]
    return {
        "text": choice.message.content or "",
        "reasoning": getattr(choice.message, "reasoning", None) or "",
        "reason": choice.finish_reason,
        "calls": calls,
    }


@pytest.mark.parametrize(
    ("said", "text", "names", "reason"),
    [
        ("It is fine.", "It is fine.", [], "stop"),
        (CALL, "", ["weather"], "tool_calls"),
        (f"Let me see.\n{CALL}\n{SECOND}", "Let me see.", ["weather", "time"], "tool_calls"),
        ("Write <tool_call> to call.", "Write <tool_call> to call.", [], "stop"),
        (CALL.replace("weather", "unknown"), CALL.replace("weather", "unknown"), [], "stop"),
    ],
)
async def test_an_answer_is_told_whole_as_it_is_streamed(said: str, text: str, names: list[str], reason: str) -> None:
    engine = SayingEngine(letters(said))
    async with running(engine) as live:
        answer = await ask(live)
        whole, parts = told(answer.choices[0]), await streamed(live)
        assert answer.usage.completion_tokens == len(engine.pieces) + 1
    assert (whole["text"], [call["name"] for call in whole["calls"]], whole["reason"]) == (text, names, reason)
    idents = [call.pop("id") for told_calls in (whole["calls"], parts["calls"]) for call in told_calls]
    assert whole == parts
    assert len({*idents}) == 2 * len(names)
    assert all(ident.startswith("call_") and len(ident) == 29 for ident in idents)
    assert [json.loads(call["arguments"]) for call in whole["calls"]] == [{"city": "Oslo"}, {}][: len(names)]


async def test_a_message_with_calls_alone_has_no_content() -> None:
    async with running(SayingEngine([CALL])) as live:
        message = (await ask(live)).choices[0].message
        assert message.content is None
        assert message.model_extra == {}


@pytest.mark.parametrize(
    ("choice", "required", "names", "parallel"),
    [
        ("auto", False, ["weather", "time"], True),
        ("required", True, ["weather", "time"], True),
        ({"type": "function", "function": {"name": "time"}}, True, ["time"], False),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]},
            },
            True,
            ["time"],
            True,
        ),
    ],
)
async def test_the_choice_reaches_the_engine_as_a_constraint(
    choice: Any, required: bool, names: list[str], parallel: bool
) -> None:
    engine = SayingEngine([SECOND])
    async with running(engine) as live:
        answer = await ask(live, tool_choice=choice)
        assert answer.choices[0].finish_reason == "tool_calls"
    constraint = engine.requests[-1].format
    assert isinstance(constraint, ToolCalls)
    assert (constraint.trigger, constraint.required, constraint.parallel) == ("<tool_call>", required, parallel)
    schemas = {"weather": json.dumps(CITY), "time": '{"type": "object", "properties": {}}'}
    places = {"weather": 0, "time": 1}
    assert constraint.forms == tuple(
        CallForm(
            f'<tool_call>{{"name": "{name}", "arguments": ',
            schemas[name],
            "}</tool_call>",
            f"tools.{places[name]}.function.parameters",
        )
        for name in names
    )
    assert all(name in engine.prompts[-1] for name in ("weather", "time"))
    assert {"<tool_call>", "</tool_call>"} <= {*engine.requests[-1].shown_special_tokens}


async def test_without_a_choice_no_tool_is_described_and_no_call_is_read() -> None:
    engine = SayingEngine([CALL])
    async with running(engine) as live:
        answer = await ask(live, tool_choice="none")
        assert (answer.choices[0].message.content, answer.choices[0].message.tool_calls) == (CALL, None)
    assert engine.requests[-1].constraint is None
    assert "Of a city" not in engine.prompts[-1]


async def test_calls_one_at_a_time() -> None:
    engine = SayingEngine([CALL, SECOND])
    async with running(engine) as live:
        message = (await ask(live, parallel_tool_calls=False)).choices[0].message
        assert [call.function.name for call in message.tool_calls] == ["weather"]
    constraint = engine.requests[-1].format
    assert isinstance(constraint, ToolCalls)
    assert not constraint.parallel


async def test_what_the_user_wrote_never_becomes_a_call() -> None:
    engine = SayingEngine(["No."])
    async with running(engine) as live:
        asked = [*HELLO, {"role": "assistant", "content": CALL[:20]}]
        for messages in ([{"role": "user", "content": CALL}], asked):
            message = (await ask(live, messages=messages)).choices[0].message
            assert (message.content, message.tool_calls) == ("No.", None)
    assert CALL[:20] in engine.prompts[-1]


async def test_a_call_that_is_cut_off_has_the_engines_own_reason() -> None:
    async with running(SayingEngine(letters(CALL[: CALL.index("slo")]), "length")) as live:
        whole, parts = told((await ask(live)).choices[0]), await streamed(live)
    assert whole["reason"] == parts["reason"] == "length"
    assert [call["arguments"] for call in whole["calls"]] == ['{"city": "O']
    assert [call["arguments"] for call in parts["calls"]] == ['{"city": "O']


async def test_several_choices_have_calls_of_their_own() -> None:
    async with running(SayingEngine([CALL])) as live:
        answer = await ask(live, n=3)
        idents = {choice.message.tool_calls[0].id for choice in answer.choices}
        assert len(idents) == 3
        stream = await ask(live, n=2, stream=True)
        begun = [one.index async for chunk in stream for one in chunk.choices if one.delta.tool_calls]
        assert {*begun} == {0, 1}


async def test_log_probabilities_are_of_all_tokens_whatever_they_became() -> None:
    engine = SayingEngine(letters(f"Yes. {CALL}"))
    async with running(engine) as live:
        answer = await ask(live, logprobs=True)
        stream = await ask(live, logprobs=True, stream=True)
        told_tokens = [
            one.token
            async for chunk in stream
            for choice in chunk.choices
            for one in (choice.logprobs.content if choice.logprobs else ())
        ]
    assert [one.token for one in answer.choices[0].logprobs.content] == engine.pieces == told_tokens


async def test_the_older_functions() -> None:
    functions: Any = [WEATHER["function"]]
    engine = SayingEngine(letters(CALL))
    async with running(engine) as live:
        answer = await ask(live, tools=openai.omit, functions=functions, function_call={"name": "weather"})
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "function_call"
        assert (message.function_call.name, message.function_call.arguments) == ("weather", '{"city": "Oslo"}')
        assert message.tool_calls is None
        stream = await ask(live, tools=openai.omit, functions=functions, stream=True)
        calls = [one.delta.function_call async for chunk in stream for one in chunk.choices if one.delta.function_call]
        assert calls[0].name == "weather"
        assert "".join(call.arguments for call in calls) == '{"city": "Oslo"}'
        history = [
            *HELLO,
            {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
            {"role": "function", "name": "weather", "content": "sunny"},
        ]
        await ask(live, tools=openai.omit, messages=history)
    assert '<tool_response>{"name": "weather", "content": "sunny"}</tool_response>' in engine.prompts[-1]


HISTORY: list[Any] = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
            {"id": "b", "type": "function", "function": {"name": "gone", "arguments": "{broken"}},
        ],
    },
    {"role": "tool", "tool_call_id": "b", "content": "error"},
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "sunny"}]},
]


async def test_a_history_of_calls_is_part_of_the_prompt() -> None:
    engine = SayingEngine(["Fine."])
    async with running(engine) as live:
        assert (await ask(live, messages=[*HELLO, *HISTORY])).choices[0].message.content == "Fine."
        assert (await ask(live, messages=[*HELLO, *HISTORY], tools=openai.omit)).choices
    for prompt in engine.prompts[-2:]:
        assert '<tool_call>{"name": "gone", "arguments": "{broken"}</tool_call>' in prompt
        assert prompt.index('"content": "error"') < prompt.index('"name": "weather", "content": "sunny"')


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "tool", "content": "sunny"}],
        [{"role": "tool", "tool_call_id": "x", "content": None}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": None}}]}, {"role": "tool"}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, {"role": "tool"}],
        [{"role": "assistant", "content": "", "tool_calls": []}, {"role": "user", "content": "And?"}],
    ],
)
async def test_histories_of_other_servers_are_answered(messages: list[Any]) -> None:
    async with running(SayingEngine(["Fine."])) as live:
        assert (await ask(live, messages=[*HELLO, *messages])).choices[0].message.content == "Fine."


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        (
            {"tools": [{"type": "web_search"}]},
            "tools.0.type",
            "this server runs no tools itself; offer a function",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.type", "'custom'"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "two of them are called 'weather'"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "not a tool's name"),
        ({"tools": [WEATHER] * 129}, "tools", "at most 128"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]},
            "tools.0.function.parameters",
            "must be object",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"x": "y" * 70_000}}}]},
            "tools.0.function.parameters",
            "at most 65536",
        ),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "which are weather, time"),
        ({"tool_choice": "any"}, "tool_choice", "'any' is not supported"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice", "'custom' is not supported"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"functions": [{"name": "f"}]}, "functions", "send one of the two"),
        ({"tools": None, "function_call": {"name": "f"}}, "function_call", "there are no tools"),
        ({"messages": [*HELLO, HISTORY[0]]}, "messages", "their results must come next"),
        ({"chat_template_kwargs": {"a": [1]}}, "chat_template_kwargs", "chat_template_kwargs"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(change: dict[str, Any], param: str, said: str) -> None:
    async with running(SayingEngine(["Fine."])) as live:
        body = {"model": MODEL, "messages": HELLO, "tools": [WEATHER, TIME], **change}
        response = await live.http.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert (response.status_code, said in error["message"]) == (400, True), error
    assert error["param"].startswith(param)


THOUGHT = "<think>\nRain?\n</think>\n\n"


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(("said", "calls"), [("Fine.", 0), (CALL, 1)])
async def test_reasoning_is_told_apart(opened: bool, said: str, calls: int) -> None:
    text = (THOUGHT.removeprefix("<think>\n") if opened else THOUGHT) + said
    kind = Thinking if opened else SayingEngine
    async with running(kind(letters(text), form=ChatFormat(thinks=True))) as live:
        answer = await ask(live)
        whole, parts = told(answer.choices[0]), await streamed(live)
        assert answer.choices[0].message.reasoning_content == "Rain?"
        left_out = await ask(live, extra_body={"include_reasoning": False})
        assert "Rain" not in left_out.model_dump_json()
    assert whole["reasoning"] == parts["reasoning"] == "Rain?"
    assert whole["text"] == parts["text"] == ("" if calls else "Fine.")
    assert len(whole["calls"]) == len(parts["calls"]) == calls


async def test_a_model_that_does_not_think_says_think_as_text() -> None:
    async with running(SayingEngine([THOUGHT])) as live:
        assert (await ask(live)).choices[0].message.content == THOUGHT


async def test_calls_of_llama_are_told_when_they_are_known_to_be_calls() -> None:
    call = '{"name": "weather", "parameters": {"city": "Oslo"}}'
    engine = SayingEngine(letters(call), form=ChatFormat(LLAMA, native=True))
    async with running(engine) as live:
        parts = await streamed(live)
        assert [json.loads(one["arguments"]) for one in parts["calls"]] == [{"city": "Oslo"}]
        assert engine.requests[-1].constraint is None
        assert (await ask(live, tool_choice="required")).choices[0].finish_reason == "tool_calls"
        assert isinstance(engine.requests[-1].format, ToolCalls)
        engine.pieces = letters(call.replace('"Oslo"', "Oslo"))
        broken = told((await ask(live)).choices[0])
        assert (broken["text"], broken["calls"]) == ("".join(engine.pieces), [])


async def test_mistrals_ids_are_of_its_form() -> None:
    said = '[TOOL_CALLS] [{"name": "time", "arguments": {}}]'
    async with running(SayingEngine([said], form=ChatFormat(MISTRAL, native=True))) as live:
        (call,) = (await ask(live)).choices[0].message.tool_calls
        assert len(call.id) == 9
        assert call.id.isalnum()


class Weather(pydantic.BaseModel):
    """Of a city."""

    city: str


async def test_the_clients_own_helpers_read_the_calls() -> None:
    said = letters(CALL.replace("weather", "Weather"))
    tool = openai.pydantic_function_tool(Weather)
    async with running(SayingEngine(said)) as live:
        parsed = await live.client.chat.completions.parse(model=MODEL, messages=HELLO, tools=[tool])
        (call,) = list(parsed.choices[0].message.tool_calls or [])
        assert call.function.parsed_arguments == Weather(city="Oslo")
        async with live.client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[tool]) as stream:
            kinds = {event.type async for event in stream}
            final = await stream.get_final_completion()
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    (last,) = list(final.choices[0].message.tool_calls or [])
    assert last.function.parsed_arguments == Weather(city="Oslo")


@pytest.mark.long
async def test_a_models_own_template_gets_the_tools(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_tiny_model(tmp_path_factory.mktemp("tools"), chat_template=QWEN_STYLE)
    nested: dict[str, Any] = {}
    for _ in range(30):  # a schema of more than 64 levels, two of each here, is refused
        nested = {"properties": {"a": nested}}
    deep = {"type": "function", "function": {"name": "deep", "parameters": {"type": "object"} | nested}}
    async with tiny_engine(folder) as engine, running(engine) as live:
        (model,) = (await live.client.models.list()).data
        assert model.model_extra is not None
        assert model.model_extra["capabilities"]["tools"] == "native"
        asked = {"model": MODEL, "messages": [*HELLO, *HISTORY], "tools": [WEATHER, TIME]}
        tokens = (await live.http.post("/tokenize", json=asked)).json()
        text = (await live.http.post("/detokenize", json={"tokens": tokens["tokens"]})).json()["prompt"]
        answer = await ask(live, messages=asked["messages"], max_tokens=4)
        assert answer.usage.prompt_tokens == tokens["count"]
        assert (await ask(live, tools=[deep], max_tokens=1)).choices
    assert '<tools>\n{"type": "function", "function": {"name": "weather", "description": "Of a city"' in text
    assert '<tool_call>\n{"name": "gone", "arguments": {broken}\n</tool_call>' in text
    assert "<tool_response>\nsunny\n</tool_response>" in text
