"""What clients get who ask in another way than the API has it: one sentence that helps, and no redirect."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from support.serving import MODEL, Running, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

HELLO: Any = [{"role": "user", "content": "one two"}]
CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": HELLO, "max_tokens": 2}


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(ScriptedEngine(ScriptedSettings(tokens=2))) as live:
        yield live


@pytest.mark.parametrize("path", ["/", "/livez", "/v1/models", f"/v1/models/{MODEL}", CHAT, "/v1/embeddings"])
async def test_head_and_options_of_every_route(server: Running, path: str) -> None:
    head, options = await server.http.head(path), await server.http.options(path)
    assert head.status_code in (200, 204)
    assert head.content == b""
    assert options.status_code == 204
    assert {"HEAD", "OPTIONS"} < set(options.headers["allow"].split(", "))
    assert (await server.http.head(f"{path}/no-such-thing/at-all")).status_code == 404


async def test_head_says_what_get_would_say(server: Running) -> None:
    head, get = await server.http.head("/v1/models"), await server.http.get("/v1/models")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    "path", [f"{CHAT}/", "/v1/models/", "/v1/v1/chat/completions", "/chat/completions", "/V1/models"]
)
async def test_a_similar_path_gets_the_right_one_in_the_message_and_no_redirect(server: Running, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await server.http.request(method, path, json=BODY, headers={"host": "elsewhere.example"})
        if answer.status_code == 405:
            continue
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "route_not_found")
        assert "/v1/" in answer.json()["error"]["message"].split(";", 1)[1]
        assert "location" not in answer.headers


async def test_a_compressed_body_is_refused_by_the_name_of_its_header(server: Running) -> None:
    for encoding in ("gzip", "br", "gzip, identity"):
        packed = gzip.compress(json.dumps(BODY).encode())
        refused = await server.http.post(CHAT, content=packed, headers={"content-encoding": encoding})
        assert refused.status_code == 415
        assert "content-encoding" in refused.json()["error"]["message"]
    plain = await server.http.post(CHAT, json=BODY, headers={"content-encoding": "identity"})
    assert plain.status_code == 200


async def test_every_response_has_an_id_of_its_own(server: Running) -> None:
    answers = [await server.http.post(CHAT, json=BODY, headers={"x-request-id": "same"}) for _ in range(2)]
    assert len({answer.json()["id"] for answer in answers}) == 2
    assert {answer.headers["x-request-id"] for answer in answers} == {"same"}


@pytest.mark.parametrize(
    ("message", "param", "said"),
    [
        (
            {"role": "user", "content": "a", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            "messages.0",
            "only an assistant's message makes calls",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
            "messages.0.content.0.type",
            "images are not supported",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio", "input_audio": {}}]},
            "messages.0.content.1.type",
            "audio is not supported",
        ),
        (
            {"role": "user", "content": [{"type": "x" * 900}]},
            "messages.0.content.0.type",
            "this model reads text only",
        ),
    ],
)
async def test_content_that_is_not_text_is_refused_by_name(
    server: Running, message: dict[str, object], param: str, said: str
) -> None:
    refused = (await server.http.post(CHAT, json={**BODY, "messages": [message]})).json()["error"]
    assert refused["param"] == param
    assert said in refused["message"]
    assert len(refused["message"]) < 300


async def test_an_overflow_is_in_the_words_that_clients_look_for(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is"):
        await server.client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=10**5)
    with pytest.raises(openai.BadRequestError, match="maximum context length is"):
        await server.client.embeddings.create(model=MODEL, input="x " * 5000)


async def test_embeddings_of_token_ids_only_with_the_flag(server: Running) -> None:
    for ids in ([1, 2], [[1], [2, 3]]):
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as caught:
            await server.client.embeddings.create(model=MODEL, input=ids)
        assert caught.value.param == "input"
    async with running(ScriptedEngine(ScriptedSettings()), accepts_token_ids=True) as live:
        ids = (await live.http.post("/tokenize", json={"prompt": "one two"})).json()["tokens"]
        by_ids = await live.client.embeddings.create(model=MODEL, input=ids)
        by_text = await live.client.embeddings.create(model=MODEL, input="one two")
        assert by_ids.data[0].embedding == by_text.data[0].embedding


async def _preflight(live: Running, origin: str) -> httpx.Response:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    return await live.http.options(CHAT, headers={"origin": origin, **asked})


async def test_pages_of_other_origins_are_let_in_only_where_they_are_named(server: Running) -> None:
    page = "https://app.example"
    assert "access-control-allow-origin" not in (await _preflight(server, page)).headers
    async with running(ScriptedEngine(ScriptedSettings(tokens=2)), allowed_origins=(page,)) as live:
        allowed = await _preflight(live, page)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, page)
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-origin" not in (await _preflight(live, "https://other.example")).headers
        answer = await live.http.post(CHAT, json=BODY, headers={"origin": page})
        assert answer.headers["access-control-allow-origin"] == page
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        refused = await live.http.post(CHAT, json={}, headers={"origin": page})
        assert refused.headers["access-control-allow-origin"] == page  # so that the page can read why
