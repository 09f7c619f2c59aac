"""A loop as AutoGPT has it, by HTTP alone: a plan of a schema, a call of one of its commands, its result, an answer."""

import json
from typing import Any

import httpx
from conftest import SCRIPTED, Served
from weather import SCHEMA, TOOL, weather

PLAN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "thoughts": {"type": "string"},
        "steps": {"type": "array", "items": {"enum": ["weather", "finish"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["thoughts", "steps"],
    "additionalProperties": False,
}
FINISH: Any = {"type": "function", "function": {"name": "finish", "parameters": SCHEMA}}


@SCRIPTED
def test_plan_call_read_answer(actor: Served) -> None:
    history: list[Any] = [
        {"role": "system", "content": "You are an agent. Plan first, then use a command at a time."},
        {"role": "user", "content": "Tell me how it is outside in Paris."},
    ]
    with httpx.Client(base_url=actor.base_url, timeout=60) as http:

        def ask(**options: Any) -> Any:
            sent = http.post("/chat/completions", json={"model": actor.model, "messages": history, **options})
            assert sent.status_code == 200, sent.text
            history.append(sent.json()["choices"][0]["message"])
            return history[-1]

        form = {"type": "json_schema", "json_schema": {"name": "plan", "schema": PLAN, "strict": True}}
        plan = json.loads(ask(response_format=form)["content"])
        assert set(plan["steps"]) <= {"weather", "finish"}
        history.append({"role": "user", "content": "Take the first step: weather."})
        (call,) = ask(tools=[TOOL, FINISH], tool_choice="required", parallel_tool_calls=False)["tool_calls"]
        assert call["function"]["name"] == "weather"
        read = weather(**json.loads(call["function"]["arguments"]))
        history.append({"role": "tool", "tool_call_id": call["id"], "content": read})
        assert "sunny" in ask(tools=[TOOL, FINISH])["content"]
