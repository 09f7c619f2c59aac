"""What becomes of a stream's bytes when its silent server is left."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest

from support.timers import FakeTimers
from vicuna_server.gateway import exchange
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.exchange import Exchange
from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.silence import SILENT_SECONDS, Silence

EVENT = b"data: 1\n\n"


@asynccontextmanager
async def _silent(monkeypatch: pytest.MonkeyPatch, response: Any) -> AsyncIterator[tuple[Exchange, FakeTimers]]:
    """An exchange whose server is lost as soon as it has been silent for long."""
    timers = FakeTimers()
    monkeypatch.setattr(exchange, "Silence", lambda is_lost, leave: Silence(is_lost, leave, timers))
    upstream: Any = SimpleNamespace(balancer=SimpleNamespace(sending=lambda _: nullcontext()), post=response)
    meter: Any = SimpleNamespace(begin=lambda _, pending: nullcontext(SimpleNamespace()))
    one = Exchange(upstream, Endpoint("http://one"), meter, pending=False, is_left=lambda _: True)
    async with one:
        one.frames = Frames()
        yield one, timers
    assert timers.pending == []


@asynccontextmanager
async def _sent(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[Exchange, FakeTimers, aiohttp.StreamReader]]:
    """The same, once the head of its response has come."""
    content = aiohttp.StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())

    async def post(*_: object) -> Any:
        return nullcontext(SimpleNamespace(content=content))

    async with _silent(monkeypatch, post) as (one, timers):
        await one.send(Mock(), Mock(), None)
        yield one, timers, content


async def test_what_comes_as_it_is_left_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _sent(monkeypatch) as (one, timers, content):
        reading = asyncio.create_task(one.read())
        await asyncio.sleep(0)
        content.feed_data(EVENT)
        timers.advance(SILENT_SECONDS)  # before the task could take it
        assert await reading == EVENT
        with pytest.raises(TimeoutError, match="not among the ready endpoints"):
            await one.read()


async def test_whoever_waits_for_a_silent_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _sent(monkeypatch) as (one, timers, _):
        reading = asyncio.create_task(one.read())
        await asyncio.sleep(0)
        timers.advance(SILENT_SECONDS)
        with pytest.raises(TimeoutError, match="not among the ready endpoints"):
            await reading


async def test_its_end_leaves_nothing_to_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _sent(monkeypatch) as (one, _, content):
        content.feed_data(EVENT)
        assert await one.read() == EVENT
        known = weakref.ref(one)
        gc.disable()
    try:
        del one
        assert known() is None
    finally:
        gc.enable()


async def test_so_is_whoever_waits_for_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    async def post(*_: object) -> Any:
        await asyncio.Event().wait()

    async with _silent(monkeypatch, post) as (one, timers):
        sending = asyncio.create_task(one.send(Mock(), Mock(), None))
        await asyncio.sleep(0)
        timers.advance(SILENT_SECONDS)
        with pytest.raises(TimeoutError, match="not among the ready endpoints"):
            await sending


async def test_a_timeout_of_another_kind_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def post(*_: object) -> Any:
        raise aiohttp.ConnectionTimeoutError("no connection")

    async with _silent(monkeypatch, post) as (one, _):
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await one.send(Mock(), Mock(), None)
