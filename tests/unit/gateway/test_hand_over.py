"""When a stream is handed over, and which server is asked."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from vicuna_server.gateway.affinity import NONE
from vicuna_server.gateway.balancer import Balancer
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model
from vicuna_server.gateway.hand_over import BUSY_SECONDS, HandOver

MODEL = Model("team", "tiny", "tiny", hand_over_seconds=30.0)
OWN, SISTER = Endpoint("http://own", "aaaaaaaa"), Endpoint("http://sister", "aaaaaaaa")
NEW, NEWER = Endpoint("http://new", "bbbbbbbb"), Endpoint("http://newer", "bbbbbbbb")


class Stream:
    """A stream at `OWN`, and whom its hand-over asks; all refuse with the same status."""

    def __init__(self, status: int = 409) -> None:
        self.now = 0.0
        self.catalogue = Catalogue()
        self.catalogue.put(MODEL)
        self.asked: list[str] = []
        known, balancer = self.catalogue, Balancer(lambda: self.now)
        upstream: Any = SimpleNamespace(
            model=known.model, endpoints=known.endpoints, balancer=balancer, post=self._post
        )
        meter: Any = SimpleNamespace(begin=_attempt)
        record: Any = SimpleNamespace(not_handed_over=lambda: None)
        outgoing: Any = SimpleNamespace(affinity=NONE)
        stream: Any = SimpleNamespace(told=lambda: b"", may_go_on=True)
        self.subject = HandOver(upstream, MODEL, outgoing, meter, record, stream, lambda: self.now)
        exchange: Any = SimpleNamespace(endpoint=OWN, frames=SimpleNamespace(grow=None))
        self.stream, self.exchange = stream, exchange
        self.status = status

    async def _post(self, _: object, attempt: Any, *__: object) -> Any:
        self.asked.append(attempt.endpoint.url.removeprefix("http://"))
        return _Response(self.status)

    def ready(self, *endpoints: Endpoint) -> None:
        self.catalogue.put_endpoints(MODEL.key, "slice", endpoints)

    async def at(self, now: float) -> Sequence[str]:
        """Look at a moment; return all that were asked so far."""
        self.now = now
        await self.subject.look(self.exchange)
        return self.asked


class _Response:
    def __init__(self, status: int) -> None:
        self.status = status

    async def __aenter__(self) -> "_Response":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""


class _Attempt(SimpleNamespace):
    def __enter__(self) -> "_Attempt":
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def record(self, _: object) -> None:
        """Do nothing."""

    def drop(self) -> None:
        """Do nothing."""


def _attempt(endpoint: Endpoint, *, pending: bool) -> _Attempt:
    assert pending
    return _Attempt(endpoint=endpoint)


async def test_a_server_is_left_after_it_was_not_ready_for_so_long_without_a_break() -> None:
    stream = Stream()
    stream.ready(OWN, SISTER)
    assert await stream.at(100) == []
    stream.ready(SISTER)
    assert await stream.at(110) == await stream.at(139) == []
    stream.ready(OWN, SISTER)
    assert await stream.at(141) == []
    stream.ready(SISTER)
    assert await stream.at(150) == await stream.at(179) == []
    assert await stream.at(180) == ["sister"]


@pytest.mark.parametrize("change", ["field", "deleted", "state"])
async def test_it_is_not_left_where_that_is_not_asked_for_or_cannot_be(change: str) -> None:
    stream = Stream()
    stream.ready(SISTER)
    await stream.at(100)
    if change == "field":
        stream.catalogue.put(replace(MODEL, hand_over_seconds=None))
    elif change == "deleted":
        stream.catalogue.remove(MODEL.key)
    else:
        stream.stream.may_go_on = False
    assert await stream.at(200) == []
    stream.catalogue.put(replace(MODEL, hand_over_seconds=1.0))  # which may change meanwhile
    stream.stream.may_go_on = True
    await stream.at(300)
    assert await stream.at(302) == ["sister"]


async def test_the_new_revision_is_asked_first_and_once_if_it_differs() -> None:
    stream = Stream()
    stream.ready(SISTER, NEW, NEWER)
    await stream.at(100)
    asked = [*(await stream.at(130))]
    assert asked in (["new"], ["newer"])
    assert await stream.at(130.5) == asked
    assert await stream.at(132) == [*asked, "sister"]
    assert await stream.at(134) == [*asked, "sister"]
    stream.ready(SISTER, NEW, NEWER, Endpoint("http://fourth", "cccccccc"))
    assert await stream.at(136) == [*asked, "sister", "fourth"]


async def test_a_full_server_is_asked_again_later() -> None:
    stream = Stream(status=429)
    stream.ready(SISTER)
    await stream.at(100)
    assert await stream.at(130) == ["sister"]
    assert await stream.at(130 + BUSY_SECONDS - 1) == ["sister"]
    assert await stream.at(130 + BUSY_SECONDS) == ["sister", "sister"]


async def test_nobody_is_asked_where_nobody_else_is_ready() -> None:
    stream = Stream()
    stream.ready()
    await stream.at(100)
    assert await stream.at(500) == []
