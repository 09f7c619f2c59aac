"""Equal shares for all callers: in the queue, and of the places where requests run."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.engine import Generation, OutputChunk
from vicuna_server.engine.limits import Admission
from vicuna_server.engine.scope import CacheScope
from vicuna_server.engine.turns import first_turn, give_way, holds_too_many
from vicuna_server.errors import OverloadedError


def scope_of(name: str) -> CacheScope:
    """Names begin with their caller; what has time ends with "~"."""
    return CacheScope(caller=name[0], flex=name.endswith("~"))


def test_who_holds_least_comes_first_and_among_equals_who_came_first() -> None:
    held = Counter(a=2, b=1)
    assert first_turn(["a1", "b1", "b2"], scope_of, held) == "b1"
    assert first_turn(["a1", "c1", "b2"], scope_of, held) == "c1"
    assert first_turn(["a1", "a2"], scope_of, held) == "a1"
    assert first_turn([], scope_of, held) is None


def test_what_has_time_comes_after_the_others_of_its_caller() -> None:
    held = Counter(a=1, b=1)
    assert first_turn(["a1~", "a2", "a3~"], scope_of, held) == "a2"
    assert first_turn(["a1~", "a3~"], scope_of, held) == "a1~"
    assert first_turn(["a1~", "b2"], scope_of, Counter(b=1)) == "a1~"  # shares of callers come first


def test_what_has_time_gives_way_to_the_others_of_its_caller() -> None:
    running = ["a1", "a2~", "b1", "b2~"]
    held = Counter(a=2, b=2)
    assert give_way(running, scope_of, held, scope_of("a3")) == ["a2~"]
    assert give_way(running, scope_of, held, scope_of("a3~")) == []
    assert give_way(["a1", "b1"], scope_of, Counter(a=1, b=1), scope_of("a3")) == []


def test_of_the_caller_that_holds_most_what_has_time_gives_way_first() -> None:
    held = Counter(a=3)
    assert give_way(["a1", "a2~", "a3"], scope_of, held, scope_of("b1~")) == ["a2~"]
    assert give_way(["a1", "a2", "a3"], scope_of, held, scope_of("b1")) == ["a1", "a2", "a3"]


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9)), st.sampled_from("abcde"))
def test_nobody_takes_a_place_that_would_be_taken_back(counts: dict[str, int], caller: str) -> None:
    held = Counter(counts)
    most = holds_too_many(held, caller)
    if most is None:
        assert max(held.values(), default=0) - held[caller] < 2
        return
    held[most] -= 1
    held[caller] += 1
    assert held[most] >= held[caller]
    assert holds_too_many(held, most) != caller


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
