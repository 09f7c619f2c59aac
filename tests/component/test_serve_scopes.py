"""What one client asked can be read by no other: not in usage, of a prompt that begins alike."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.gateway import Gateway, gateway
from support.serving import Running, running, write_tiny_model
from vicuna_contract.names import SALT_HEADER
from vicuna_server.engine.builtin.engine import BuiltinEngine
from vicuna_server.engine.builtin.loading import LoadSettings
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.keys import KeyRing, hash_of

KNOWN = "The door code of the vault is "
SECRET = KNOWN + "7 3 9 1 4. " + "Please write a letter to the staff about the canteen. " * 3
ROUTES = ("/v1/chat/completions", "/v1/completions")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=1024)


@asynccontextmanager
async def serving(folder: Path, prefix_cache: str = "PerKey") -> AsyncIterator[Running]:
    async with running(BuiltinEngine(LoadSettings(folder, dtype="float32")), prefix_cache=prefix_cache) as live:
        yield live


def body(route: str, text: str, **fields: Any) -> dict[str, Any]:
    prompt = {"messages": [{"role": "user", "content": text}]} if "chat" in route else {"prompt": text}
    return {"model": "tiny", "max_tokens": 1, "temperature": 0, **prompt, **fields}


async def cached(
    http: httpx.AsyncClient, text: str, headers: dict[str, str] | None = None, route: str = ROUTES[0], **fields: Any
) -> int:
    """Ask, and return what usage says was not computed again."""
    answer = await http.post(route, json=body(route, text, **fields), headers=headers)
    assert answer.status_code == 200, answer.text
    usage = answer.json() if not fields.get("stream") else json.loads(answer.text.split("data: ")[-2])
    return int(usage["usage"]["prompt_tokens_details"]["cached_tokens"])


def salt(text: str) -> dict[str, str]:
    return {SALT_HEADER: text}


async def guesses(http: httpx.AsyncClient, headers: dict[str, str]) -> set[int]:
    """Return what usage tells of ten guesses at the next letter, the right one among them."""
    return {await cached(http, f"{KNOWN}{digit}", headers | {"x-request-id": "r"}) for digit in range(10)}


async def test_a_salt_shares_with_itself_alone(folder: Path) -> None:
    async with serving(folder) as server:
        assert await cached(server.http, SECRET, salt("victim")) == 0
        right = await cached(server.http, SECRET, salt("victim"))
        assert right > len(SECRET)
        for stranger in (salt("attacker"), {}, salt("victim2"), salt("x" * 20_000)):
            for route in ROUTES:
                first = await cached(server.http, SECRET, stranger, route)
                assert first <= (0 if route == ROUTES[0] else len("<user>")), stranger
            assert await cached(server.http, SECRET, stranger) > len(SECRET), "its own it finds again"
        streamed: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        assert await cached(server.http, SECRET, salt("another"), **streamed) == 0
        assert await cached(server.http, SECRET, salt("another"), **streamed) == right


async def test_a_text_that_was_embedded_serves_its_salt_alone(folder: Path) -> None:
    async with serving(folder) as server:
        asked = {"model": "tiny", "input": SECRET}
        await server.http.post("/v1/embeddings", json=asked, headers=salt("victim"))
        assert await cached(server.http, SECRET, salt("attacker"), "/v1/completions") == 0
        assert await cached(server.http, SECRET, salt("victim"), "/v1/completions") == len(SECRET) - 1


async def test_without_salts_all_share_where_the_server_is_told_so(folder: Path) -> None:
    async with serving(folder, "Shared") as server:
        assert await cached(server.http, SECRET, salt("victim")) == 0
        assert await cached(server.http, SECRET, salt("attacker")) > len(SECRET)
        assert await cached(server.http, SECRET) > len(SECRET)


async def test_off_means_never_across_requests(folder: Path) -> None:
    async with serving(folder, "Off") as server:
        same = {"x-request-id": "mine"}
        for headers in (salt("a"), salt("a"), {}, {}, same, same):
            for route in ROUTES:
                assert await cached(server.http, SECRET, headers, route) == 0
                assert await cached(server.http, SECRET, headers, route, n=3) == 0
        await server.http.post("/v1/embeddings", json={"model": "tiny", "input": SECRET})
        assert await cached(server.http, SECRET, route="/v1/completions") == 0


@asynccontextmanager
async def _two_keys(server: Running, *namespaces: str) -> AsyncIterator[tuple[Gateway, dict[str, dict[str, str]]]]:
    tokens = {"alice": "a-token", "mallory": "m-token"}
    entries = {name: json.dumps({"sha256": hash_of(token)}).encode() for name, token in tokens.items()}
    async with gateway(KeyRing.parse(entries)) as door:
        for namespace in namespaces:
            door.route(server.url, model=Model(namespace, "tiny", "tiny"))
        yield door, {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}


async def test_through_the_gateway_no_key_reads_anothers_prompt(folder: Path) -> None:
    async with serving(folder) as server, _two_keys(server, "team") as (door, headers):
        alice, mallory = headers["alice"], headers["mallory"]
        assert await cached(door.client, SECRET, alice) == 0
        assert await cached(door.client, SECRET, alice) > len(SECRET)
        # what one has in common with oneself is all that there is to see
        await cached(door.client, KNOWN, mallory)
        assert len(await guesses(door.client, mallory)) == 1
        for spelling in (SALT_HEADER, SALT_HEADER.upper(), "X-Vicuna-Cache-Salt"):
            assert len(await guesses(door.client, mallory | {spelling: "victim"})) == 1
        assert await cached(door.client, SECRET, mallory) <= len("<user>" + KNOWN + "7\n")
        assert await cached(door.client, SECRET, alice | {SALT_HEADER: "other"}) > len(SECRET)


async def test_the_oracle_is_there_where_all_share(folder: Path) -> None:
    """So that the test above would see it."""
    async with serving(folder, "Shared") as server, _two_keys(server, "team") as (door, headers):
        await cached(door.client, SECRET, headers["alice"])
        assert len(await guesses(door.client, headers["mallory"])) > 1


async def test_a_salt_is_no_good_at_another_model(folder: Path) -> None:
    async with serving(folder) as server, _two_keys(server, "team", "evil") as (door, headers):
        alice = headers["alice"]
        assert await cached(door.client, SECRET, alice, model="team/tiny") == 0
        assert await cached(door.client, SECRET, alice, model="evil/tiny") == 0
        assert await cached(door.client, SECRET, alice, model="team/tiny") > len(SECRET)
