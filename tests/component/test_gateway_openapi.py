"""The gateway follows its OpenAPI document: schemathesis makes valid and invalid requests and checks responses."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from support.gateway import gateway
from support.serving import eventually, in_background, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings
from vicuna_server.gateway.keys import KeyRing, hash_of

HEADERS = {"Authorization": "Bearer secret"}


@asynccontextmanager
async def _door() -> AsyncIterator[str]:
    ring = KeyRing.parse({"k": json.dumps({"sha256": hash_of("secret")}).encode()})
    engine = ScriptedEngine(ScriptedSettings(tokens=3, context_length=256))
    async with running(engine) as live, gateway(ring, learns=True) as door:
        door.route(live.url)
        await eventually(lambda: door.abilities.open == 0)  # so that its entry has all fields
        yield door.url


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    with in_background(_door()) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", headers=HEADERS)


POSTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
ROUTES = [("GET", "/livez"), ("GET", "/readyz"), ("GET", "/v1/models"), ("GET", "/v1/models/{name}")]
ROUTES += [("POST", path) for path in POSTS]
KEPT = "/v1/responses/{response_id}"
ROUTES += [("GET", KEPT), ("DELETE", KEPT), ("GET", f"{KEPT}/input_items")]


def test_the_list_here_is_the_documents(api: Any) -> None:
    documented = {(one.ok().method.upper(), one.ok().path) for one in api.get_all_operations()}
    assert documented == set(ROUTES)


def test_the_document_describes_what_servers_tell(api: Any) -> None:
    entry = httpx.get(api.location.replace("openapi.json", "v1/models/tiny"), headers=HEADERS).json()
    documented = api.raw_schema["components"]["schemas"]["ModelObject"]
    assert set(entry) == set(documented["properties"])
    assert set(documented["properties"]) - set(documented["required"]) == {"max_model_len", "capabilities"}


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
            case.body["model"] = "tiny"  # the model's server checks the other fields
        case.call_and_validate(timeout=30, headers=HEADERS, excluded_checks=[positive_data_acceptance])

    judge()
