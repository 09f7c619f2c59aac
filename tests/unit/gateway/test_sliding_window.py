"""The tokens of the last minute."""

from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.gateway.sliding_window import SlidingWindow


def test_tokens_are_forgotten_after_a_minute_and_no_earlier() -> None:
    recent = SlidingWindow()
    recent.add(5, 100.9)
    recent.add(7, 130.0)
    assert recent.sum(160.99) == 12
    assert recent.sum(161.0) == 7
    assert recent.sum(191.0) == 0


def test_it_says_when_there_is_room() -> None:
    recent = SlidingWindow()
    assert recent.wait(0, 100.0) == 0
    recent.add(5, 100.0)
    recent.add(7, 130.0)
    assert recent.wait(12, 140.0) == 0
    assert recent.wait(7, 140.0) == 21
    assert recent.wait(0, 140.0) == 51


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 100)), max_size=50), st.integers(0, 200))
def test_the_time_it_says_is_the_first_at_which_there_is_room(added: list[tuple[float, int]], room: int) -> None:
    recent, now = SlidingWindow(), 0.0
    for pause, tokens in added:
        now += pause
        recent.add(tokens, now)
    wait = recent.wait(room, now)
    if wait:
        assert recent.sum(now + wait - 0.01) > room
    assert recent.sum(now + wait) <= room
