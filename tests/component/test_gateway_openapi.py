"""The gateway's OpenAPI document as a promise: schemathesis makes requests from it, right and wrong, and judges."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from support.gateway import gateway
from support.serving import running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.keys import KeyRing, hash_of

HEADERS = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    started, stop = threading.Event(), asyncio.Event()
    urls: list[str] = []

    async def serve() -> None:
        ring = KeyRing.parse({"k": json.dumps({"sha256": hash_of("secret")}).encode()})
        async with (
            running(ScriptedEngine(ScriptedSettings(tokens=3, context_length=256))) as live,
            gateway(ring) as door,
        ):
            door.route(live.url)
            urls.append(door.url)
            started.set()
            await stop.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(60)
    yield schemathesis.openapi.from_url(f"{urls[0]}/openapi.json", headers=HEADERS)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


POSTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
ROUTES = [("GET", "/livez"), ("GET", "/readyz"), ("GET", "/v1/models"), ("GET", "/v1/models/{name}")]
ROUTES += [("POST", path) for path in POSTS]


def test_the_list_here_is_the_documents(api: Any) -> None:
    documented = {(one.ok().method.upper(), one.ok().path) for one in api.get_all_operations()}
    assert documented == set(ROUTES)


CASES = [(GenerationMode.POSITIVE, *route) for route in ROUTES]
CASES += [(GenerationMode.NEGATIVE, "POST", path) for path in POSTS]


@pytest.mark.parametrize(("mode", "method", "path"), CASES)
def test_answers_are_as_the_document_says(mode: GenerationMode, method: str, path: str, api: Any) -> None:
    operation = api[path][method]

    @hypothesis.settings(
        max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def judge(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body["model"] = "tiny"  # what follows is for the model's server to judge
        case.call_and_validate(timeout=30, headers=HEADERS, excluded_checks=[positive_data_acceptance])

    judge()
