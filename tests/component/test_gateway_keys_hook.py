"""`vicuna-server signing-keys`, against an API server that keeps Secrets and ConfigMaps."""

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from support.gateway import answering
from support.kubeconfig import write_kubeconfig
from vicuna_contract.signing import public_keys
from vicuna_server.asgi.listening import bind
from vicuna_server.cli import main
from vicuna_server.gateway.key_pair import KeyPairs
from vicuna_server.gateway.key_provisioning import ROTATION

SECRET, CONFIG_MAP = "/api/v1/namespaces/sys/secrets/gw-signing", "/api/v1/namespaces/sys/configmaps/gw-signing"
Body = dict[str, Any]


class Store:
    """Objects by path; writes with another resourceVersion than the present one are conflicts."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, Body] = {}
        self.asked: list[tuple[str, str]] = []
        self.before_write: Callable[[str], None] = lambda path: None
        self.refuse = 0
        self._version = 0

    def put(self, path: str, body: Body) -> None:
        """Write an object, whatever is there."""
        self._version += 1
        metadata = {**body.get("metadata", {}), "resourceVersion": str(self._version)}
        self.objects[path] = {**body, "metadata": metadata}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path))
        if self.refuse:
            return web.json_response({"message": "forbidden"}, status=self.refuse)
        if request.method == "GET":
            found = self.objects.get(request.path)
            return web.json_response(found or {}, status=200 if found else 404)
        body = await request.json()
        name = body["metadata"]["name"]
        path = f"{request.path}/{name}" if request.method == "POST" else request.path
        self.before_write(path)
        known = self.objects.get(path)
        version = body["metadata"].get("resourceVersion")
        if (known is None) != (request.method == "POST") or (known and known["metadata"]["resourceVersion"] != version):
            return web.json_response({"reason": "Conflict"}, status=409)
        self.put(path, body)
        return web.json_response(self.objects[path], status=201)

    def secret(self) -> KeyPairs:
        entries = {name: base64.b64decode(value) for name, value in self.objects[SECRET]["data"].items()}
        return KeyPairs.of(entries, self.objects[SECRET]["metadata"]["annotations"][ROTATION].split())

    def published(self) -> str:
        return str(self.objects[CONFIG_MAP]["data"]["public-keys"])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with _serving(Store()) as store:
        yield store


@asynccontextmanager
async def _serving(store: Store) -> AsyncIterator[Store]:
    async with answering(store.answer) as store.url:
        yield store


COMMAND = ("signing-keys", "--secret", "sys/gw-signing", "--config-map", "sys/gw-signing")
Hook = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def hook(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Hook:
    """Run the command in this process; return its exit code and what it said."""

    async def run(*words: str) -> tuple[int, str]:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", store.url, "t")))
        caplog.clear()
        async with asyncio.timeout(100):
            code = await asyncio.to_thread(main, [*COMMAND, *words])
        said = capsys.readouterr().err + caplog.text
        assert "PRIVATE KEY" not in said
        return code, said

    return run


async def test_what_is_missing_is_made_once_and_kept(store: Store, tmp_path: Path) -> None:
    env = {**os.environ, "KUBECONFIG": str(write_kubeconfig(tmp_path / "config", store.url, "t"))}

    async def succeed() -> None:
        command = (sys.executable, "-m", "vicuna_server.cli", *COMMAND)
        process = await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(100):
            _, said = await process.communicate()
        assert (process.returncode, b"PRIVATE KEY" in said) == (0, False), said

    await succeed()
    made = store.secret()
    assert store.published() == made.public()
    assert len(public_keys(made.public())) == 2
    store.asked.clear()
    await succeed()
    assert store.secret() == made
    assert {method for method, _ in store.asked} == {"GET"}


async def test_public_keys_that_are_lost_or_wrong_are_told_again(store: Store, hook: Hook) -> None:
    await hook()
    made = store.secret()
    store.objects[CONFIG_MAP]["data"] = {"public-keys": "x", "note": "kept"}
    assert (await hook())[0] == 0
    assert store.objects[CONFIG_MAP]["data"] == {"public-keys": made.public(), "note": "kept"}
    del store.objects[CONFIG_MAP]
    assert (await hook())[0] == 0
    assert (store.secret(), store.published()) == (made, made.public())


async def test_a_rotation_is_carried_out_once(store: Store, hook: Hook) -> None:
    await hook()
    first = store.secret()
    for _ in range(2):
        assert (await hook("--rotation", "2027"))[0] == 0
        second = store.secret()
        assert (second.current, second.rotations) == (first.next, ("2027",))
        assert store.published() == second.public()
    assert (await hook())[0] == 0
    assert store.secret() == second, "to say nothing of a rotation takes none back"
    assert (await hook("--rotation", "2028"))[0] == 0
    third = store.secret()
    assert third.current == second.next
    assert (await hook("--rotation", "2027"))[0] == 0
    assert store.secret() == third, "to go back to an earlier release rotates nothing"


@pytest.mark.parametrize("words", [[], ["--rotation", "2027"]])
async def test_a_secret_that_holds_something_else_is_left_alone(store: Store, hook: Hook, words: list[str]) -> None:
    theirs = {"metadata": {"name": "gw-signing"}, "data": {"password": base64.b64encode(b"x").decode()}}
    store.put(SECRET, theirs)
    before = store.objects[SECRET]
    code, said = await hook(*words)
    assert (code, "SigningKeyBroken" in said) == (65, True)
    assert store.objects == {SECRET: before}


async def test_somebody_who_is_faster_wins(store: Store, hook: Hook) -> None:
    theirs = KeyPairs.fresh()
    data = {name: base64.b64encode(value).decode() for name, value in theirs.entries().items()}

    def meanwhile(path: str) -> None:
        if path == SECRET and SECRET not in store.objects:
            store.put(SECRET, {"metadata": {"name": "gw-signing", "annotations": {ROTATION: ""}}, "data": data})

    store.before_write = meanwhile
    assert (await hook())[0] == 0
    assert (store.secret(), store.published()) == (theirs, theirs.public())


async def test_a_secret_that_is_written_all_the_time_is_not_written_over(store: Store, hook: Hook) -> None:
    await hook()
    made = store.secret()
    store.before_write = lambda path: store.put(path, store.objects[path])
    code, said = await hook("--rotation", "2027")
    assert (code, "Contended" in said) == (69, True)
    assert store.secret() == made


async def test_an_api_server_that_refuses_or_is_away_is_told(store: Store, hook: Hook) -> None:
    store.refuse = 403
    code, said = await hook()
    assert (code, "ApiRefused" in said, "forbidden" in said) == (69, True, True)
    with bind("127.0.0.1", 0) as nobody:
        store.url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    code, said = await hook()
    assert (code, "ApiUnreachable" in said) == (69, True)
