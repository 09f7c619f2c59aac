"""Equal shares for all callers: in the queue, and of the places where requests run."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.engine import Generation, OutputChunk
from vicuna_server.engine.limits import Admission
from vicuna_server.engine.turns import first_turn, gives_way
from vicuna_server.errors import OverloadedError


def test_who_holds_least_comes_first_and_among_equals_who_came_first() -> None:
    held = Counter(a=2, b=1)
    assert first_turn(["a1", "b1", "b2"], lambda name: name[0], held) == "b1"
    assert first_turn(["a1", "c1", "b2"], lambda name: name[0], held) == "c1"
    assert first_turn(["a1", "a2"], lambda name: name[0], held) == "a1"
    assert first_turn([], str, held) is None


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9)), st.sampled_from("abcde"))
def test_nobody_takes_a_place_that_would_be_taken_back(counts: dict[str, int], caller: str) -> None:
    held = Counter(counts)
    most = gives_way(held, caller)
    if most is None:
        assert max(held.values(), default=0) - held[caller] < 2
        return
    held[most] -= 1
    held[caller] += 1
    assert held[most] >= held[caller]
    assert gives_way(held, most) != caller


def test_a_full_queue_takes_a_caller_that_has_less_than_its_share() -> None:
    admission = Admission(2)  # and 8 that wait
    for _ in range(10):
        admission.check(2, 0, "greedy")
        admission.take("greedy", Generation(1))
    with pytest.raises(OverloadedError):
        admission.check(2, 8, "greedy")
    with pytest.raises(OverloadedError):
        admission.check(2, 8)
    for taken in range(5):
        admission.check(2, 8 + taken, "other")
        admission.take("other", Generation(1))
    with pytest.raises(OverloadedError):
        admission.check(2, 13, "other")
    with pytest.raises(OverloadedError):
        admission.check(2, 18, "third")


def test_what_has_ended_is_nobodys() -> None:
    admission, ended = Admission(1), Generation(1)
    admission.take("one", ended)
    admission.take("two", Generation(1))
    admission.take("two", Generation(1))
    with pytest.raises(OverloadedError):
        admission.check(1, 4, "two")
    ended.push(OutputChunk("", 1, finish_reason="stop"))
    admission.check(1, 4, "two")
