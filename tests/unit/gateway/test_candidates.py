"""Whom a request is sent to next, and whether a silent server is left."""

from types import SimpleNamespace
from typing import Any

import pytest

from vicuna_server.gateway.affinity import NONE
from vicuna_server.gateway.balancer import Balancer
from vicuna_server.gateway.candidates import Candidates
from vicuna_server.gateway.catalogue import Catalogue, Endpoint, Model

MODEL = Model("team", "tiny", "tiny")
ONE, TWO, THREE, FOUR = [Endpoint(f"http://{name}") for name in ("one", "two", "three", "four")]


class Request:
    """One request; its endpoints are all ready at first."""

    def __init__(self, *, streams: bool = True, continues: str = "") -> None:
        self.catalogue = Catalogue()
        self.catalogue.put(MODEL)
        self.current: Any = None
        self.survives = True
        upstream: Any = SimpleNamespace(
            endpoints=self.catalogue.endpoints, balancer=Balancer(), settings=SimpleNamespace(max_tries=3)
        )
        outgoing: Any = SimpleNamespace(streams=streams, continues=continues, affinity=NONE)
        self.subject = Candidates(upstream, MODEL, outgoing, self._stream())
        self.ready(ONE, TWO, THREE, FOUR)

    def _stream(self) -> Any:
        request = self

        class Stream:
            def is_of(self, attempt: Any) -> bool:
                return attempt is request.current

            def preferred(self, endpoints: Any, _: Any) -> Any:
                return endpoints

            @property
            def survives(self) -> bool:
                return request.survives

        return Stream()

    def ready(self, *endpoints: Endpoint) -> None:
        self.catalogue.put_endpoints(MODEL.key, "slice", endpoints)

    def attempt(self) -> Any:
        """Send it to the next server."""
        endpoint = self.subject.take()
        assert endpoint is not None
        return SimpleNamespace(endpoint=endpoint)

    def gone(self, *attempts: Any) -> None:
        """Let all be ready but the servers of these attempts."""
        away = [one.endpoint for one in attempts]
        self.ready(*[one for one in (ONE, TWO, THREE, FOUR) if one not in away])

    def begins(self, attempt: Any) -> None:
        """Let the client have a stream from this attempt."""
        self.current = attempt


def test_three_are_tried_at_most_and_each_once() -> None:
    request = Request()
    tried = [request.subject.take() for _ in range(4)]
    assert tried[3] is None
    assert len(set(tried)) == 4


def test_behind_a_lost_server_those_that_refused_may_go_on() -> None:
    request = Request()
    _, _, third = [request.attempt() for _ in range(3)]
    assert request.subject.take() is None
    request.begins(third)
    request.subject.lost(third.endpoint)
    assert request.attempt().endpoint != third.endpoint
    assert request.attempt().endpoint != third.endpoint
    assert request.subject.take() is None


def test_a_server_is_left_if_it_is_not_ready_any_more_and_another_one_is() -> None:
    request = Request()
    first = request.attempt()
    assert not request.subject.is_left_for(first)
    request.gone(first)
    assert request.subject.is_left_for(first)
    request.ready()
    assert not request.subject.is_left_for(first), "nobody else is there"


def test_a_response_that_is_no_stream_says_nothing_until_it_is_complete() -> None:
    request = Request(streams=False)
    first = request.attempt()
    request.gone(first)
    assert not request.subject.is_left_for(first)


def test_a_stream_that_cannot_go_on_stays() -> None:
    request = Request()
    first = request.attempt()
    request.begins(first)
    request.gone(first)
    assert request.subject.is_left_for(first)
    request.survives = False
    assert not request.subject.is_left_for(first)


@pytest.mark.parametrize("begun", [False, True])
def test_a_server_is_not_left_if_no_try_is_left(begun: bool) -> None:
    """The error event that would follow comes no earlier than without this."""
    request = Request()
    first, second, third = [request.attempt() for _ in range(3)]
    if begun:
        for each in (first, second):
            request.begins(each)
            request.subject.lost(each.endpoint)
        request.begins(third)
    request.gone(third)
    assert not request.subject.is_left_for(third)


def test_a_request_that_continues_a_response_does_not_leave_the_server_that_keeps_it() -> None:
    request = Request(continues="resp_x")
    request.ready(TWO, THREE)
    assert not request.subject.is_left_for(SimpleNamespace(endpoint=ONE))  # type: ignore[arg-type]
