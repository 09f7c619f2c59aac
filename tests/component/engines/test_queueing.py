"""Every engine: who runs, who waits, who is refused, and who leaves."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.engine_suite import CONTEXT, WORDS, Subject, answer, asked, idle
from support.serving import eventually
from vicuna_server.engine import Generation
from vicuna_server.errors import ContextLengthError, OverloadedError


async def test_leaving_frees_the_place_at_once(subject: Subject) -> None:
    generation = await subject.engine.submit(asked(max_tokens=900))
    await anext(aiter(generation))
    generation.cancel()
    await eventually(lambda: generation.over)
    await idle(subject)
    assert subject.engine.stats.cancelled == 1
    assert 0 < generation.tokens < 900
    assert subject.engine.stats.generated_tokens <= 900


async def test_leaving_before_the_turn_has_come_leaves_the_line(make: Callable[..., Any], kind: str) -> None:
    subject = await make(kind, max_concurrency=1)
    first = await subject.engine.submit(asked(max_tokens=900))
    await anext(aiter(first))
    second = await subject.engine.submit(asked())
    second.cancel()
    await eventually(lambda: second.over)
    first.cancel()
    await eventually(lambda: first.over)
    await idle(subject)
    assert subject.engine.stats.cancelled == 2


async def fill(subject: Subject, taken: list[Generation]) -> None:
    while len(taken) < 10:
        taken.append(await subject.engine.submit(asked(max_tokens=900)))


async def test_more_than_may_wait_are_refused_with_429(make: Callable[..., Any], kind: str) -> None:
    subject = await make(kind, max_concurrency=1)
    taken: list[Generation] = []
    with pytest.raises(OverloadedError) as caught:
        await fill(subject, taken)
    assert len(taken) in (4, 5)  # one runs and four wait; one between the two may count twice for a moment
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "overloaded", 1)
    for one in taken:
        one.cancel()
    await eventually(lambda: all(one.over for one in taken))  # what has just arrived is in no count yet
    await idle(subject)
    assert (await answer(subject, asked(max_tokens=2))).last.tokens == 2


async def test_what_does_not_fit_the_context_is_refused_and_the_rest_may_be_filled(subject: Subject) -> None:
    with pytest.raises(ContextLengthError) as caught:
        await subject.engine.submit(asked(max_tokens=CONTEXT))
    tokens = len(await subject.engine.tokenize(WORDS))
    assert (caught.value.tokens, caught.value.param, caught.value.code) == (tokens, "prompt", "context_length_exceeded")
    said = await answer(subject, asked(max_tokens=CONTEXT - tokens, ceiling=30))
    assert (said.last.tokens, said.last.finish_reason) == (30, "length")


async def test_the_time_limit_ends_an_answer_as_its_length_does(subject: Subject) -> None:
    before = time.monotonic()
    said = await answer(subject, asked(max_tokens=900, time_limit=0.3))
    assert said.last.finish_reason == "length"
    assert said.last.tokens < 900
    assert time.monotonic() - before < 20
    await idle(subject)


async def many(subject: Subject, count: int) -> None:
    lengths = [3 + number % 17 for number in range(count)]
    said = await asyncio.gather(
        *(answer(subject, asked(f"{number} {WORDS}", length)) for number, length in enumerate(lengths))
    )
    assert [one.last.tokens for one in said] == lengths
    assert subject.engine.stats.finished == count
    await idle(subject)


async def test_a_hundred_at_once(make: Callable[..., Any], kind: str) -> None:
    await many(await make(kind, max_concurrency=32), 120)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_five_hundred_at_once(make: Callable[..., Any], kind: str) -> None:
    await many(await make(kind, max_concurrency=128), 500)
