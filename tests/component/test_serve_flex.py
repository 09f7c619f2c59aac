"""A request that has time gives its place to another of its caller, and is answered whole all the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.serving import running, write_tiny_model
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings

LONG = 300
TEXT = "Tell me of the sea."
CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": TEXT}], "max_tokens": LONG})
COMPLETION = ("/v1/completions", {"prompt": TEXT, "max_tokens": LONG})
RESPONSE = ("/v1/responses", {"input": TEXT, "max_output_tokens": LONG})
FLEX: list[tuple[tuple[str, dict[str, Any]], dict[str, Any]]] = [
    (CHAT, {"service_tier": "flex"}),
    (COMPLETION, {"priority": 5}),
    (RESPONSE, {"service_tier": "flex"}),
]


@pytest.mark.parametrize(("asked", "flex"), FLEX, ids=["chat", "completion", "response"])
async def test_a_request_that_has_time_gives_way(asked: tuple[str, dict[str, Any]], flex: Any, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", context=1024)
    route, fields = asked
    fixed = {"model": "tiny", "temperature": 0, "ignore_eos": True}
    engine = BuiltinEngine(LoadSettings(folder, dtype="float32", max_concurrency=1))
    async with running(engine) as server:
        alone = await server.http.post(route, json={**fixed, **fields})
        async with server.http.stream("POST", route, json={**fixed, **fields, **flex, "stream": True}) as later:
            lines = later.aiter_lines()
            events: list[dict[str, Any]] = []
            while not text_of(events):
                line = await anext(lines)
                events += [json.loads(line[6:])] if line.startswith("data: {") else []
            soon = await server.http.post("/v1/completions", json={**fixed, "prompt": "Hi", "max_tokens": 1})
            assert soon.status_code == 200
            assert engine.stats.preempted == 1
            events += [json.loads(line[6:]) async for line in lines if line.startswith("data: {")]
    text = text_of(events)
    assert len(text) > LONG / 2
    assert json.dumps(text) in json.dumps(alone.json())


def text_of(events: list[dict[str, Any]]) -> str:
    parts = [str(event.get("delta", "")) for event in events if event.get("type") == "response.output_text.delta"]
    choices = [choice for event in events for choice in event.get("choices", ())]
    return "".join(
        [*parts, *(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)]
    )
