"""When a request's counts are final, who gets them, and for how long they are kept."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.api.choices import Choices
from vicuna_server.api.count_comments import CountComments
from vicuna_server.api.counting import CountsRegistry, RequestCounts
from vicuna_server.engine import Generation, OutputChunk
from vicuna_server.errors import RequestError
from vicuna_server.protocol.counts import Counts, Used

NAME, OTHER = "0" * 32, "0" * 31 + "1"
LEFT = RequestError("the client closed the connection", code="client_left")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _counts(named: bool = False) -> tuple[RequestCounts, list[Used]]:
    final: list[Used] = []
    return RequestCounts(final.append, named=named), final


async def test_counts_are_final_when_request_and_all_generations_have_ended() -> None:
    counts, final = _counts()
    generations = [Generation(5, begun=True), Generation(5), Generation(7), Generation(7)]
    choices = Choices(generations, 2, counts)
    generations[0].push(OutputChunk("a", 1))
    assert choices.used == (5, 1)  # the second prompt is still in the queue
    generations[0].push(OutputChunk("b", 2, "stop"))
    generations[1].push(LEFT)
    choices.cancel()
    counts.add(Used())  # the response is over
    assert not final
    assert not choices.over
    generations[3].begun = True
    generations[3].push(OutputChunk("c", 3))  # the engine was computing this when the client left
    generations[3].push(LEFT)
    generations[2].push(LEFT)
    assert final == [(12, 5)]
    assert choices.usage["total_tokens"] == 17


async def test_generations_that_had_ended_before_are_counted() -> None:
    counts, final = _counts()
    done = Generation(4, begun=True)
    done.push(OutputChunk("", 1, "length"))
    Choices([done], 1, counts)
    counts.add(Used())
    assert final == [(4, 1)]


async def test_a_request_cancelled_in_the_queue_counts_nothing() -> None:
    counts, final = _counts()
    waiting = Generation(1000)
    Choices([waiting], 1, counts)
    counts.add(Used())
    waiting.push(LEFT)
    assert final == [(0, 0)]


async def test_a_question_is_answered_once_the_counts_are_final() -> None:
    final: list[Used] = []
    registry = CountsRegistry(final.append)
    counts = registry.begin(NAME)
    asking = asyncio.create_task(registry.final(NAME))
    left = asyncio.create_task(registry.final(NAME))
    await asyncio.sleep(0)
    left.cancel()  # a cancelled question does not affect the other
    counts.expect()
    counts.add(Used(3, 4))
    await asyncio.sleep(0)
    assert not asking.done()
    counts.add(Used())
    assert await asking == (3, 4)
    assert await registry.final(NAME) == (3, 4)
    assert final == [(3, 4)]


async def test_a_question_may_come_before_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CountsRegistry(lambda _: None)
    asking = asyncio.create_task(registry.final(NAME))
    await asyncio.sleep(0)
    registry.begin(NAME).add(Used(1, 2))
    assert await asking == (1, 2)
    monkeypatch.setattr("vicuna_server.api.counting._UNKNOWN_SECONDS", 0.01)
    assert await registry.final(OTHER) is None


async def test_counts_are_kept_for_a_minute_and_not_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicuna_server.api.counting._UNKNOWN_SECONDS", 0.0)
    monkeypatch.setattr("vicuna_server.api.counting._MAX_KEPT", 3)
    clock = Clock()
    registry = CountsRegistry(lambda _: None, clock)
    for number in range(4):
        registry.begin(f"{number:032x}").add(Used(number))
    assert await registry.final(NAME) is None
    assert await registry.final(OTHER) == (1, 0)
    clock.now += 61
    registry.begin("f" * 32).add(Used())
    assert await registry.final(OTHER) is None
    assert await registry.final("f" * 32) == (0, 0)


def test_comments_come_with_the_first_frame_then_twice_a_second_at_most() -> None:
    clock, used = Clock(), Used(3, 1)
    comments = CountComments(_counts(named=True)[0], lambda: used, clock)
    assert comments.next() == b': vicuna {"usage":[3,1],"final":false}\n\n'
    clock.now += 0.4
    assert comments.next() == b""
    clock.now += 0.2
    used = Used(3, 9)
    assert comments.next() == b': vicuna {"usage":[3,9],"final":false}\n\n'
    assert comments.last(final=True) == b': vicuna {"usage":[3,9],"final":true}\n\n'
    silent = CountComments(_counts()[0], lambda: used, clock)
    assert silent.next() + silent.last(final=True) == b""


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.booleans())
def test_what_is_written_is_read(prompt: int, completion: int, final: bool) -> None:
    counts = Counts(Used(prompt, completion), final)
    assert Counts.read(counts.written()) == counts
    assert b"\n" not in counts.written()


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["usage", "final", "x"]), inner),
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=4000))
def test_whatever_is_read_the_counts_are_bounded(text: bytes) -> None:
    counts = Counts.read(text)
    assert counts is None or all(0 <= count < 2**31 for count in counts.used)
