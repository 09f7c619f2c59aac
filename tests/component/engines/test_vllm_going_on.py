"""Fronts of vLLM servers go on with each other's streams where all that decides about tokens is the same."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from support.engines import FAKE, VllmProcess, vllm_process
from support.gateway import chat, events
from support.serving import Running, running
from vicuna_contract.names import STATE_HEADER
from vicuna_contract.stream_state import REFUSED, STATE_COMMENT, TOKENS_COMMENT
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.vllm.engine import VllmEngine
from vicuna_server.engine.vllm.settings import VllmSettings

CHAT = "/v1/chat/completions"
BODY = json.dumps(chat(stream=True, temperature=0, max_tokens=12, ignore_eos=True)).encode()


@asynccontextmanager
async def _front(server: VllmProcess, digest: str) -> AsyncIterator[Running]:
    engine = VllmEngine(LoadSettings(server.folder), VllmSettings(server.url, digest=digest))
    async with running(engine, artifact="one") as front:
        yield front


async def _asked(front: Running, state: bytes = b"") -> httpx.Response:
    headers = {"content-type": "application/json", STATE_HEADER: str(len(state))}
    return await front.http.post(CHAT, content=BODY + state, headers=headers)


def _said(text: str, comment: bytes) -> Sequence[str]:
    start = comment.decode()
    return [line.removeprefix(start) for line in text.split("\n") if line.startswith(start)]


async def _goes_on(first: Running, second: Running) -> httpx.Response:
    """Let a server begin a stream, and another one go on behind some tokens that no client has seen."""
    whole = await _asked(first)
    (begin,), ids = _said(whole.text, STATE_COMMENT), ",".join(_said(whole.text, TOKENS_COMMENT)).split(",")
    assert len(ids) == 12
    state = f'{{"begin":{begin},"events":0,"seconds":1,"tokens":[{",".join(ids[:5])}]}}'
    response = await _asked(second, state.encode())
    if response.status_code == 200:
        assert events(response.text) == events(whole.text)
    return response


async def test_with_equal_digests_they_do(servers: Callable[[str], VllmProcess]) -> None:
    server = servers(FAKE)
    async with _front(server, "a") as first, _front(server, "a") as second:
        assert (await _goes_on(first, second)).status_code == 200


async def test_with_others_they_refuse(servers: Callable[[str], VllmProcess]) -> None:
    server = servers(FAKE)
    async with _front(server, "a") as first, _front(server, "b") as second:
        for pair in ((first, second), (second, first)):
            response = await _goes_on(*pair)
            assert (response.status_code, response.json()["error"]["code"]) == (409, REFUSED)


@pytest.mark.parametrize(("version", "status"), [("0.32.0", 200), ("0.33.0", 409)])
async def test_the_version_of_vllm_counts(
    version: str, status: int, servers: Callable[[str], VllmProcess], folder: Path, tmp_path: Path
) -> None:
    flags = ("--served-model-name", "m")
    with vllm_process(FAKE, folder, tmp_path / "log", *flags, FAKE_VLLM_VERSION=version) as other:
        async with _front(servers(FAKE), "a") as first, _front(other, "a") as second:
            assert (await _goes_on(first, second)).status_code == status
