"""Claims that users made are watched by their metadata alone, over HTTP and by the whole process."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.memory_kube import MemoryKube
from support.memory_server import MemoryServer
from vicuna_operator.errors import ForbiddenError
from vicuna_operator.kube import watch
from vicuna_operator.kube.client import KubeClient
from vicuna_operator.kube.watch import ExpiredError, ObjectIdentity, Stream


def claim(name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, **fields}}


@pytest.fixture
async def server() -> AsyncIterator[MemoryServer]:
    async with MemoryServer(MemoryKube()) as server:
        yield server


@pytest.fixture
async def stream(
    server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stream[ObjectIdentity]]:
    monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
    client = await KubeClient.connect()
    yield Stream(client, "v1", "PersistentVolumeClaim", ObjectIdentity.of, metadata_only=True)
    await client.close()


async def test_a_list_comes_in_pages_and_a_watch_goes_on_from_there(
    server: MemoryServer, stream: Stream[ObjectIdentity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PAGE", 2)
    for number in range(5):
        server.kube.put(claim(f"c{number}"), "team")
    pages = [page async for page in stream.pages("team")]
    assert [[mark.name for mark in page.there] for page in pages] == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    long = "x" * 300_000  # one line, longer than any buffer on the way
    server.kube.change("PersistentVolumeClaim", "c0", {"metadata": {"annotations": {"a": long}}}, "team")
    server.kube.remove("PersistentVolumeClaim", "c1", "team")
    server.kube.put(claim("c1"), "other")
    changes = stream.changes(None, pages[-1].version)
    async with asyncio.timeout(20):
        told = [await anext(changes) for _ in range(3)]
    assert [([m.name for m in page.there], [name for _, name in page.gone]) for page in told] == [
        (["c0"], []),
        ([], ["c1"]),
        (["c1"], []),
    ]
    assert (told[2].there[0].namespace, told[2].there[0].deleting) == ("other", False)
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_version_that_is_forgotten_and_a_right_that_is_missing(
    server: MemoryServer, stream: Stream[ObjectIdentity]
) -> None:
    server.forgotten = 9
    with pytest.raises(ExpiredError, match="too old"):
        await anext(stream.changes("team", "1"))
    server.forbidden = {"team"}
    with pytest.raises(ForbiddenError):
        await anext(stream.pages("team"))


async def test_a_rotated_token_is_read_again(
    server: MemoryServer, stream: Stream[ObjectIdentity], tmp_path: Path
) -> None:
    server.token = "rotated"
    server.write_kubeconfig(tmp_path / "kubeconfig")
    assert [page async for page in stream.pages("team")]


async def test_nothing_but_metadata_is_asked_for(server: MemoryServer, stream: Stream[ObjectIdentity]) -> None:
    server.kube.put({**claim("c", deletionTimestamp="2026-01-01T00:00:00Z"), "spec": {"secret": 1}}, "team")
    opened = await stream._opener.open_list("v1", "PersistentVolumeClaim", "team", {}, None, metadata_only=True)
    async with opened:
        (item,) = json.loads(await opened.read())["items"]
    assert list(item) == ["metadata"]
