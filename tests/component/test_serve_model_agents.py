"""Real weights in agents' loops: SmolLM2 plans, calls and answers, and answers from what its own vectors find.

It is small, so what it says is judged by its form. `tests/clients` has the same loops of other projects' clients.
"""

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from pydantic import BaseModel, ConfigDict

from support.serving import MODEL, Running, running
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings

pytestmark = [pytest.mark.model, pytest.mark.long, pytest.mark.timeout(300)]

COMMANDS = ("weather", "finish")
NOTES = [
    "Tina the llama lives in a barn in Peru and eats hay.",
    "The printer on the third floor needs new toner.",
    "def add(a, b): return a + b",
]


class Plan(BaseModel):
    """What the model writes first."""

    model_config = ConfigDict(extra="forbid")

    goal: str
    steps: list[Literal["weather", "finish"]]


@pytest_asyncio.fixture
async def live(smollm2: Path) -> AsyncIterator[Running]:
    manifest = Manifest.load(smollm2)
    template = None if manifest is None else manifest.chat_template
    async with running(BuiltinEngine(LoadSettings(smollm2, pinned_template=template, dtype="float32"))) as subject:
        yield subject


def tool(name: str, field: str) -> Any:
    form = {"type": "object", "properties": {field: {"type": "string", "maxLength": 24}}, "required": [field]}
    parameters = {**form, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


async def test_plan_call_read_answer(live: Running) -> None:
    tools = [tool("weather", "city"), tool("finish", "reason")]
    history: list[Any] = [
        {"role": "system", "content": "You are an agent with two commands, weather and finish. Plan first."},
        {"role": "user", "content": "What is the weather in Paris?"},
    ]

    async def ask(**options: Any) -> Any:
        answer = await live.client.chat.completions.create(model=MODEL, messages=history, temperature=0, **options)
        (choice,) = answer.choices
        history.append(choice.message.model_dump(exclude_none=True))
        return choice

    form = {"name": "plan", "strict": True, "schema": bounded(Plan.model_json_schema())}
    plan = await ask(response_format={"type": "json_schema", "json_schema": form}, max_tokens=256)
    assert plan.finish_reason == "stop"
    assert Plan.model_validate_json(plan.message.content).steps
    history.append({"role": "user", "content": "Take the first step."})
    called = await ask(tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=256)
    assert (called.finish_reason, called.message.content) == ("tool_calls", None)
    (call,) = called.message.tool_calls
    assert call.function.name in COMMANDS
    ((field, value),) = json.loads(call.function.arguments).items()
    assert (call.function.name, field) in {("weather", "city"), ("finish", "reason")}
    assert isinstance(value, str)
    history.append({"role": "tool", "tool_call_id": call.id, "content": "It is sunny in Paris, with 21 degrees."})
    answer = await ask(tools=tools, tool_choice="none", max_tokens=48)
    assert answer.message.tool_calls is None
    assert answer.message.content.strip()


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the plan's schema so that a small model comes to an end."""
    fields = schema["properties"]
    bounds: dict[str, Any] = {"goal": {"maxLength": 60}, "steps": {"minItems": 1, "maxItems": 3}}
    return {**schema, "properties": {name: {**field, **bounds[name]} for name, field in fields.items()}}


async def test_an_answer_from_what_its_vectors_find(live: Running) -> None:
    question = "Where does Tina the llama live, and what does she eat?"
    told = await live.client.embeddings.create(model=MODEL, input=[*NOTES, question])
    *vectors, asked = (one.embedding for one in told.data)
    assert {len(one) for one in vectors} == {len(asked)} == {576}
    found = max(NOTES, key=lambda note: similarity(vectors[NOTES.index(note)], asked))
    assert found == NOTES[0]
    messages: list[Any] = [
        {"role": "system", "content": f"Answer from this note: {found}"},
        {"role": "user", "content": question},
    ]
    answer = await live.client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=48)
    assert "hay" in (answer.choices[0].message.content or "")


def similarity(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
