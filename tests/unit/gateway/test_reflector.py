"""Whatever an API server responds, requests are repeated after growing pauses, never in a hot loop."""

import asyncio
import json
from typing import Any

import pytest

from vicuna_server.gateway.api_server import ApiStatusError
from vicuna_server.gateway.reflector import Reflector

GONE = json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old"}}).encode()
ODD_ERROR = json.dumps({"type": "ERROR", "object": {"code": [], "message": 1}}).encode()
EVENT = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "9"}}}).encode()
LIST: dict[str, Any] = {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "b"}}]}
TRIES = 12


class _Picture:
    def __init__(self) -> None:
        self.replaced, self.told = 0, 0

    def replace(self, items: list[Any]) -> None:
        self.replaced += 1
        raise RuntimeError("odd")

    def changed(self, item: Any) -> None:
        self.told += 1
        raise RecursionError

    def deleted(self, item: Any) -> None:
        raise AssertionError


class _Answer:
    """One response: its JSON, or the lines of a watch; an exception is raised."""

    def __init__(self, listed: Any, lines: list[bytes]) -> None:
        self._listed, self._lines, self.content = listed, lines, self

    async def __aenter__(self) -> "_Answer":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def json(self) -> Any:
        if isinstance(self._listed, Exception):
            raise self._listed
        return self._listed

    async def readline(self) -> bytes:
        return self._lines.pop(0) if self._lines else b""


class _Api:
    def __init__(self, listed: Any, lines: list[bytes], watch: Exception | None = None) -> None:
        self._listed, self._lines, self._watch = listed, lines, watch

    async def get(self, _path: str, query: dict[str, str], _limits: object) -> Any:
        if self._watch is not None and "watch" in query:
            raise self._watch
        return _Answer(self._listed, list(self._lines))


async def _pauses(monkeypatch: pytest.MonkeyPatch, api: _Api, cache: _Picture) -> list[float]:
    """Let it run until it has paused so often; return how long it would have been each time."""
    pauses: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) >= TRIES:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr("vicuna_server.gateway.reflector.asyncio.sleep", sleep)
    reflector = Reflector(api, "/x", cache, {})  # type: ignore[arg-type]
    running = asyncio.create_task(reflector.run())
    waiting = asyncio.create_task(enough.wait())
    await asyncio.wait({running, waiting}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    assert not running.done(), running.exception()
    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    return pauses


@pytest.mark.parametrize(
    "api",
    [
        pytest.param(_Api(LIST, []), id="watches end at once"),
        pytest.param(_Api(LIST, [b"<html>", b"[" * 5000]), id="watches are no JSON"),
        pytest.param(_Api(LIST, [b"[]", b"1", b'{"type": "ADDED"}']), id="watches tell nothing"),
        pytest.param(_Api(LIST, [GONE]), id="every watch is too old, said in it"),
        pytest.param(_Api(LIST, [], ApiStatusError(410, "gone")), id="every watch is too old"),
        pytest.param(_Api(LIST, [ODD_ERROR]), id="an odd error"),
        pytest.param(_Api(LIST, [], ApiStatusError(403, "no")), id="no watch"),
        pytest.param(_Api(LIST, [], RuntimeError("odd")), id="an error that nobody thought of"),
        pytest.param(_Api([], []), id="a list that is none"),
        pytest.param(_Api(RecursionError(), []), id="a list that is too deep"),
        pytest.param(_Api(ValueError("x"), []), id="a list that is no JSON"),
    ],
)
async def test_it_is_asked_again_later_each_time(monkeypatch: pytest.MonkeyPatch, api: _Api) -> None:
    pauses = await _pauses(monkeypatch, api, _Picture())
    assert len(pauses) == TRIES
    assert sum(pauses[-4:]) > 4 * 15 / 2 - 1


async def test_a_picture_that_fails_is_asked_for_no_second_list(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = _Picture()
    turns = iter([[EVENT, EVENT]] + [[]] * TRIES)
    api = _Api(LIST, [])

    async def get(_path: str, query: dict[str, str], _limits: object) -> Any:
        return _Answer(LIST, next(turns) if "watch" in query else [])

    monkeypatch.setattr(api, "get", get)
    await _pauses(monkeypatch, api, cache)
    assert (cache.replaced, cache.told) == (1, 2)
