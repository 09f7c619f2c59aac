"""Which sequences a step computes, and how many tokens of each."""

from typing import Any, cast

import pytest

from vicuna_server.engine.builtin.prefix import SequenceTokens
from vicuna_server.engine.builtin.sequence import Sequence
from vicuna_server.engine.builtin.step_division import CHUNK_ALONE, CHUNK_IN_COMPANY, MANY, StepDivision
from vicuna_server.engine.scope import CacheScope


def prompt(tokens: int, caller: str = "one") -> Sequence:
    return Sequence(SequenceTokens([1] * tokens, scope=CacheScope(caller=caller)), cast(Any, None))


def stream(caller: str = "many") -> Sequence:
    """Return a sequence whose prompt is computed."""
    sequence = prompt(3, caller)
    sequence.tokens.computed = 3
    sequence.tokens.ids.append(7)
    assert sequence.generating
    return sequence


def counts(running: list[Sequence]) -> list[int]:
    step = dict(StepDivision().next(running))
    return [step.get(sequence, 0) for sequence in running]


def test_prompts_alone_have_the_step_for_themselves() -> None:
    assert counts([]) == []
    assert counts([prompt(CHUNK_ALONE + 1)]) == [CHUNK_ALONE]
    assert counts([prompt(600), prompt(300)]) == [600, 300]
    assert counts([prompt(3000), prompt(700), prompt(9)]) == [CHUNK_ALONE // 2, CHUNK_ALONE // 2, 0]
    assert counts([prompt(3000), prompt(9)]) == [CHUNK_ALONE - 9, 9]


def test_beside_streams_prompts_get_little_unless_many_wait() -> None:
    assert counts([stream(), prompt(3000)]) == [1, CHUNK_IN_COMPANY]
    assert counts([stream(), *(prompt(3000) for _ in range(4))])[:3] == [1, CHUNK_IN_COMPANY, CHUNK_IN_COMPANY]
    assert sum(counts([stream(), *(prompt(3000) for _ in range(40))])) == 1 + 4 * CHUNK_IN_COMPANY


def test_a_short_prompt_goes_before_many_of_another_caller_and_then_they_have_their_turn() -> None:
    many, division = [stream() for _ in range(MANY)], StepDivision()
    first, second = prompt(60), prompt(60, "two")
    assert division.next([*many, first]) == [(first, 60)]
    assert [sequence for sequence, _ in division.next([*many, second])] == [*many, second]
    assert division.next([*many, second]) == [(second, 60)]


def test_what_does_not_fit_a_short_step_waits_for_the_next() -> None:
    many = [stream() for _ in range(MANY)]
    assert counts([*many, prompt(100), prompt(100), prompt(20)]) == [0] * MANY + [100, 0, 20]
    assert counts([*many, prompt(CHUNK_IN_COMPANY + 1)]) == [1] * MANY + [CHUNK_IN_COMPANY]


@pytest.mark.parametrize(
    "running",
    [
        [stream() for _ in range(MANY - 1)],
        [*(stream() for _ in range(MANY)), *(stream(f"other {number}") for number in range(MANY + 1))],
        [*(stream() for _ in range(MANY)), stream("one")],
        [stream("one") for _ in range(MANY)],
    ],
    ids=["few", "not most of all", "it generates already", "its own"],
)
def test_else_a_step_is_for_all(running: list[Sequence]) -> None:
    assert counts([*running, prompt(60)]) == [1] * len(running) + [60]
