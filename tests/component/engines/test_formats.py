"""Every engine: an answer whose format is asked for is of that format, or ends with "length"."""

import asyncio
import json
import re
from typing import Any

import jsonschema
import pytest

from support.engine_suite import WORDS, Said, Subject, answer, asked, idle
from vicuna_server.constraints import (
    AnyJsonObject,
    CallForm,
    Choice,
    Constraint,
    Grammar,
    JsonSchema,
    Regex,
    ToolCalls,
)
from vicuna_server.engine import CacheScope, ChatPrompt
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message, Tool

PERSON = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "chat d'été", None]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["age", "kind", "tags"],
    "additionalProperties": False,
}
FORM = CallForm(
    '<call>{"name": "look", "arguments": ',
    '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}',
    "}</call>",
)
CALL = re.compile(r'<call>\{"name": "look", "arguments": (\{"n": ?[12]\})\}</call>')


def of_format(constraint: Any, prompt: Any = WORDS, **options: Any) -> Any:
    return asked(prompt, **{"max_tokens": 200, "ignore_eos": False, "constraint": constraint, **options})


async def constrained(subject: Subject, constraint: Constraint, **options: Any) -> Said:
    return await answer(subject, of_format(constraint, **options))


def is_whole(said: Said) -> bool:
    assert said.last.finish_reason in ("stop", "length")
    return said.last.finish_reason == "stop"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_schema(temperature: float, subject: Subject) -> None:
    schema = JsonSchema(json.dumps(PERSON))
    ends = 0
    for seed in range(4):
        said = await constrained(subject, schema, temperature=temperature, seed=seed)
        if is_whole(said):
            ends += 1
            jsonschema.validate(json.loads(said.text), PERSON)
            assert "\n" not in said.text
    assert ends
    await idle(subject)


async def test_json_without_blanks(subject: Subject) -> None:
    said = await constrained(subject, JsonSchema(json.dumps(PERSON), whitespace=False), temperature=1.0, seed=3)
    assert is_whole(said)
    assert said.text == json.dumps(json.loads(said.text), separators=(",", ":"), ensure_ascii=False)


async def test_a_choice_a_regular_expression_and_a_grammar(subject: Subject) -> None:
    options = ("yes", "no", "vielleicht: ä/\\\"'\n\x01 😀")
    assert (await constrained(subject, Choice(options))).text in options
    number = await constrained(subject, Regex(r"^-?[1-9][0-9]{0,4}/[a-c]+?\.$"), temperature=1.0)
    assert re.fullmatch(r"-?[1-9][0-9]{0,4}/[a-c]+\.?", number.text)
    lark = await constrained(subject, Grammar('start: "a"+ | b\nb: "b" b "c" | ""'))
    assert re.fullmatch(r"a*|b*c*", lark.text)
    gbnf = await constrained(subject, Grammar('root ::= "x" [0-9] "y"?'))
    assert re.fullmatch(r"x[0-9]y?", gbnf.text)


async def test_any_object(subject: Subject) -> None:
    said = await constrained(subject, AnyJsonObject(), max_tokens=60)
    assert said.text.startswith("{")
    if is_whole(said):
        assert isinstance(json.loads(said.text), dict)


async def test_calls_that_must_come(subject: Subject) -> None:
    one = ToolCalls("<call>", (FORM,), required=True, parallel=False)
    said = await constrained(subject, one)
    assert is_whole(said)
    assert CALL.fullmatch(said.text)
    several = await constrained(subject, ToolCalls("<call>", (FORM,), required=True, between="\n"), max_tokens=300)
    assert all(CALL.fullmatch(line) for line in several.text.split("\n")[: None if is_whole(several) else -1])


async def test_an_announced_call_is_completed_and_all_else_is_text(model: Subject) -> None:
    """The trigger is given as what the model cannot but write: text that begins with it has a whole call behind it."""
    said = await constrained(model, ToolCalls("<call>", (FORM,)), max_tokens=20)
    assert "<call>" not in said.text
    either = ToolCalls("<call>", (FORM,), otherwise=JsonSchema('{"const": "none"}'))
    for seed in range(3):
        text = (await constrained(model, either, temperature=1.0, seed=seed)).text
        assert text == '"none"' or CALL.match(text)


async def test_the_scripted_engine_calls_the_tool_that_is_named(make: Any) -> None:
    subject = await make("scripted")
    tool = Tool("look", "Looks.", {"type": "object"})

    async def said(text: str, constraint: Constraint, role: Any = "user") -> str:
        prompt = ChatPrompt((Message("user", "Hello"), Message(role, text)), (tool,))
        return (await constrained(subject, constraint, prompt=prompt)).text

    auto = ToolCalls("<call>", (FORM,))
    assert CALL.fullmatch(await said("Please look.", auto))
    assert (await said("Please see.", auto)).startswith("Hello Please see." if False else "")
    assert not CALL.search(await said("Please see.", auto))
    with_format = ToolCalls("<call>", (FORM,), otherwise=JsonSchema('{"const": "none"}'))
    assert await said("Please see.", with_format) == '"none"'


async def test_what_cannot_be_kept_is_refused_before_anything_is_generated(subject: Subject) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    with pytest.raises(RequestError) as caught:
        await subject.engine.constrain(JsonSchema(json.dumps(schema), "guided_json"))
    assert caught.value.param == "guided_json.properties.a.uniqueItems"
    assert (caught.value.status, caught.value.code) == (400, "invalid_constraint")
    for constraint in (Regex("("), Regex("(?=a)b"), Grammar("nonsense"), Choice(())):
        with pytest.raises(RequestError) as caught:
            await subject.engine.submit(of_format(constraint))
        assert caught.value.param == "structured_outputs"
    stats = subject.engine.stats
    assert (stats.running, stats.waiting, stats.generated_tokens) == (0, 0, 0)


async def test_one_that_is_prepared_is_for_many_answers(subject: Subject) -> None:
    ready = await subject.engine.constrain(Choice(("yes", "no")), CacheScope("a"))
    assert await subject.engine.constrain(ready) is ready
    several = await asyncio.gather(*(answer(subject, of_format(ready)) for _ in range(3)))
    assert {said.text for said in several} <= {"yes", "no"}


async def test_with_and_without_a_format_in_one_batch(subject: Subject) -> None:
    alone = await answer(subject, asked())
    free, fixed, schema = await asyncio.gather(
        answer(subject, asked()),
        constrained(subject, Choice(("yes", "no"))),
        constrained(subject, JsonSchema(json.dumps(PERSON))),
    )
    assert free.text == alone.text
    assert fixed.text in ("yes", "no")
    if is_whole(schema):
        jsonschema.validate(json.loads(schema.text), PERSON)


async def test_likelihoods_are_those_of_the_model(model: Subject) -> None:
    said = await constrained(model, Choice(("yes", "no")), logprobs=2)
    assert said.logprobs
    assert all(one.logprob <= one.top[0].logprob for one in said.logprobs)
    assert b"".join(one.text_bytes for one in said.logprobs).decode() == said.text


async def test_text_is_no_end_of_a_format(model: Subject) -> None:
    (token, *_) = await model.engine.tokenize("a", add_special_tokens=False)
    with pytest.raises(RequestError, match="stop_token_ids"):
        await model.engine.submit(of_format(Choice(("a", "b")), stop_token_ids=(token,)))
