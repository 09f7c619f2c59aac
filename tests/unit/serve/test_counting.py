"""When the counts of a request are final, who is told of them, and for how long they are kept."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.api.choices import Choices
from vicuna_server.api.counting import Ledger, Tally
from vicuna_server.api.reports import Reports
from vicuna_server.engine import Generation, OutputChunk
from vicuna_server.errors import RequestError
from vicuna_server.protocol.counts import Counts, Used

NAME, OTHER = "0" * 32, "0" * 31 + "1"
LEFT = RequestError("the client left", code="client_left")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _tally(named: bool = False) -> tuple[Tally, list[Used]]:
    told: list[Used] = []
    return Tally(told.append, named=named), told


async def test_counts_are_final_when_the_request_is_over_and_the_engine_has_let_go_of_all_answers() -> None:
    tally, told = _tally()
    generations = [Generation(5, begun=True), Generation(5), Generation(7), Generation(7)]
    choices = Choices(generations, 2, tally)
    generations[0].push(OutputChunk("a", 1))
    assert choices.used == (5, 1)  # the second prompt is still in the line
    generations[0].push(OutputChunk("b", 2, "stop"))
    generations[1].push(LEFT)
    choices.cancel()
    tally.add(Used())  # the response is over
    assert not told
    assert not choices.over
    generations[3].begun = True
    generations[3].push(OutputChunk("c", 3))  # what the engine was at when the client left
    generations[3].push(LEFT)
    generations[2].push(LEFT)
    assert told == [(12, 5)]
    assert choices.usage["total_tokens"] == 17


async def test_what_had_ended_before_is_counted_too() -> None:
    tally, told = _tally()
    done = Generation(4, begun=True)
    done.push(OutputChunk("", 1, "length"))
    Choices([done], 1, tally)
    tally.add(Used())
    assert told == [(4, 1)]


async def test_a_request_that_waited_in_the_line_until_its_client_left_costs_nothing() -> None:
    tally, told = _tally()
    waiting = Generation(1000)
    Choices([waiting], 1, tally)
    tally.add(Used())
    waiting.push(LEFT)
    assert told == [(0, 0)]


async def test_who_asks_is_told_once_the_counts_are_final() -> None:
    told: list[Used] = []
    ledger = Ledger(told.append)
    tally = ledger.begin(NAME)
    asking = asyncio.create_task(ledger.final(NAME))
    left = asyncio.create_task(ledger.final(NAME))
    await asyncio.sleep(0)
    left.cancel()  # one who leaves takes nothing from the other
    tally.expect()
    tally.add(Used(3, 4))
    await asyncio.sleep(0)
    assert not asking.done()
    tally.add(Used())
    assert await asking == (3, 4)
    assert await ledger.final(NAME) == (3, 4)
    assert told == [(3, 4)]


async def test_a_question_may_come_before_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(lambda _: None)
    asking = asyncio.create_task(ledger.final(NAME))
    await asyncio.sleep(0)
    ledger.begin(NAME).add(Used(1, 2))
    assert await asking == (1, 2)
    monkeypatch.setattr("vicuna_server.api.counting._UNKNOWN_SECONDS", 0.01)
    assert await ledger.final(OTHER) is None


async def test_counts_are_kept_for_a_minute_and_not_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicuna_server.api.counting._UNKNOWN_SECONDS", 0.0)
    monkeypatch.setattr("vicuna_server.api.counting._MOST_KEPT", 3)
    clock = Clock()
    ledger = Ledger(lambda _: None, clock)
    for number in range(4):
        ledger.begin(f"{number:032x}").add(Used(number))
    assert await ledger.final(NAME) is None
    assert await ledger.final(OTHER) == (1, 0)
    clock.now += 61
    ledger.begin("f" * 32).add(Used())
    assert await ledger.final(OTHER) is None
    assert await ledger.final("f" * 32) == (0, 0)


def test_reports_come_with_the_first_frame_then_twice_a_second_at_most() -> None:
    clock, used = Clock(), Used(3, 1)
    reports = Reports(_tally(named=True)[0], lambda: used, clock)
    assert reports.next() == b': vicuna {"usage":[3,1],"final":false}\n\n'
    clock.now += 0.4
    assert reports.next() == b""
    clock.now += 0.2
    used = Used(3, 9)
    assert reports.next() == b': vicuna {"usage":[3,9],"final":false}\n\n'
    assert reports.last(final=True) == b': vicuna {"usage":[3,9],"final":true}\n\n'
    silent = Reports(_tally()[0], lambda: used, clock)
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


@pytest.mark.long
@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=4000))
def test_whatever_is_read_the_counts_are_bounded(text: bytes) -> None:
    counts = Counts.read(text)
    assert counts is None or all(0 <= count < 2**31 for count in counts.used)
