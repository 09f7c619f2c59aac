"""The usage of one request at all its servers, and which attempts are queried in the background."""

import asyncio
from functools import partial

import aiohttp
import pytest

from vicuna_server.gateway import usage_queries as module
from vicuna_server.gateway.accounting import Accounting, accounting_of
from vicuna_server.gateway.authentication import ANONYMOUS
from vicuna_server.gateway.catalogue import Endpoint, Model
from vicuna_server.gateway.meter import Attempt, RequestMeter
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.usage_queries import UsageQueries
from vicuna_server.protocol.counts import Counts, Used

ONE, TWO = Endpoint("http://one"), Endpoint("http://two")
MODEL = Model("team", "tiny", "tiny")


class Recorder:
    """A meter, and its callbacks' calls."""

    def __init__(self, accounting: Accounting) -> None:
        self.accounting = accounting
        self.settled: list[Used | None] = []
        self.asked: list[Attempt] = []
        self.closed = 0

    async def meter(self, queries: UsageQueries | None = None) -> RequestMeter:
        ask = self.asked.append if queries is None else partial(queries.ask, MODEL)
        return RequestMeter(
            await self.accounting.open(ANONYMOUS, "m", 0), lambda one: self.settled.append(one.used), ask, self._closed
        )

    def _closed(self) -> None:
        self.closed += 1

    @property
    def used(self) -> Used:
        return self.accounting.used("", "m")


async def test_a_request_counts_what_all_its_attempts_have_used_and_never_less() -> None:
    recorder = Recorder(accounting_of(None, Rates()))
    meter = await recorder.meter()
    with meter.begin(ONE) as first:
        first.record(Used(5, 2))
    assert recorder.asked == [first]
    with meter.begin(TWO) as second:
        second.record(Used(5, 7))
        second.record(Used(4, 9))  # servers are not trusted: counts never decrease
        assert (second.used, recorder.used) == ((5, 9), (10, 11))
        second.settle()
    meter.close()
    assert (recorder.settled, recorder.closed) == ([(5, 9)], 0)
    assert recorder.accounting.under_way == 1  # the first attempt is not settled yet
    first.record(Used(5, 3))
    first.settle()
    first.settle()
    first.record(Used(99, 99))
    assert (recorder.settled, recorder.closed, recorder.accounting.under_way) == ([(5, 9), (5, 3)], 1, 0)
    assert recorder.used == meter.used == (10, 12)
    assert len({first.name, second.name}) == 2


async def test_a_request_that_no_server_took_has_used_nothing() -> None:
    recorder = Recorder(accounting_of(None, Rates()))
    meter = await recorder.meter()
    with meter.begin(ONE) as one:
        one.settle()
    meter.close()
    assert (meter.used, recorder.used, recorder.closed) == (None, (0, 0), 1)


@pytest.mark.parametrize("answer", [None, aiohttp.ServerDisconnectedError(), OSError(), TimeoutError(), "late"])
async def test_a_server_that_does_not_tell_leaves_what_it_told_before(
    answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUERY_SECONDS", 0.01)

    async def ask(_: Model, __: Attempt) -> Counts | None:
        if answer == "late":
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return None

    recorder, queries = Recorder(accounting_of(None, Rates())), UsageQueries(ask)
    meter = await recorder.meter(queries)
    with meter.begin(ONE) as one:
        one.record(Used(1, 2))
    meter.close()
    await queries.close()
    assert (recorder.settled, recorder.closed) == ([(1, 2)], 1)


async def test_questions_are_bounded_for_each_model_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    monkeypatch.setattr(module, "_MOST_OF_A_MODEL", 2)
    may, asked = asyncio.Event(), list[str]()

    async def ask(model: Model, one: Attempt) -> Counts | None:
        asked.append(model.name)
        await may.wait()
        return Counts(Used(1, 1), final=True)

    recorder, queries = Recorder(accounting_of(None, Rates())), UsageQueries(ask)
    meter = await recorder.meter()
    tries = [meter.begin(ONE) for _ in range(8)]
    for one, name in zip(tries, "aaaabbbb", strict=True):
        queries.ask(Model("team", name, name), one)
    await asyncio.sleep(0)
    assert asked == ["a", "a", "b"]
    assert recorder.settled == [None] * 5
    may.set()
    await queries.close()
    meter.close()
    assert recorder.closed == 1


async def test_an_attempt_that_goes_on_with_another_ones_stream_counts_for_both() -> None:
    recorder = Recorder(accounting_of(None, Rates()))
    meter = await recorder.meter()
    with meter.begin(ONE) as first:
        first.record(Used(5, 2))
        first.keep()
    assert recorder.asked == []  # its server is lost, and what it counted is counted again
    with meter.begin(TWO, pending=True) as second:
        second.record(Used(5, 1))
        assert recorder.used == (5, 2)  # not the sum, while it is not known whether it goes on
        second.go_on(first)
        assert (second.used, recorder.used) == ((5, 2), (5, 2))
        second.record(Used(5, 9))
        second.settle()
    first.give_up()  # harmless now
    meter.close()
    assert (recorder.used, meter.used) == ((5, 9), (5, 9))
    assert (recorder.settled, recorder.asked, recorder.closed) == ([None, (5, 9)], [], 1)


async def test_an_attempt_that_does_not_go_on_is_counted_by_itself() -> None:
    recorder = Recorder(accounting_of(None, Rates()))
    meter = await recorder.meter()
    with meter.begin(ONE) as first:
        first.record(Used(5, 2))
        first.keep()
    with meter.begin(TWO, pending=True) as second:
        second.record(Used(5, 0))
        second.settle()
    assert recorder.used == (10, 2)
    first.give_up()
    assert recorder.asked == [first]
    first.settle()
    meter.close()
    assert recorder.closed == 1


async def test_an_attempt_that_was_not_needed_counts_nothing() -> None:
    recorder = Recorder(accounting_of(None, Rates()))
    meter = await recorder.meter()
    with meter.begin(ONE) as first:
        first.record(Used(5, 2))
        with meter.begin(TWO, pending=True) as second:
            second.record(Used(5, 3))
            second.drop()
        assert recorder.used == (5, 2)
        first.record(Used(5, 4))
        first.settle()
    meter.close()
    assert (recorder.used, meter.used) == ((5, 4), (5, 4))
    assert (recorder.settled, recorder.asked, recorder.closed) == ([None, (5, 4)], [], 1)
