"""When a server that says nothing is left."""

from support.timers import FakeTimers
from vicuna_server.gateway.silence import LOOK_SECONDS, SILENT_SECONDS, Silence


class Watched:
    """A server that is watched: what it is asked for comes when a test says so."""

    def __init__(self, *, lost: bool = True) -> None:
        self.timers = FakeTimers()
        self.lost = lost
        self.left: list[float] = []
        self.asked = 0
        self.subject = Silence(self._is_lost, lambda: self.left.append(self.timers.now), self.timers)

    def _is_lost(self) -> bool:
        self.asked += 1
        return self.lost


def test_it_is_left_once_after_so_many_seconds_of_silence() -> None:
    server = Watched()
    server.timers.advance(7)
    server.subject.begin()
    server.timers.advance(SILENT_SECONDS - 0.1)
    assert server.left == []
    server.timers.advance(100)
    (at,) = server.left
    assert 7 + SILENT_SECONDS <= at <= 7 + SILENT_SECONDS + LOOK_SECONDS
    assert server.timers.pending == []


def test_one_that_says_something_in_time_is_not_even_asked_about() -> None:
    server = Watched()
    for _ in range(100):
        server.subject.begin()
        server.timers.advance(SILENT_SECONDS - 0.1)
        server.subject.end()
    assert (server.asked, server.left) == (0, [])


def test_time_in_which_nothing_is_awaited_is_no_silence() -> None:
    server = Watched()
    server.subject.begin()
    server.timers.advance(1)
    server.subject.end()  # the client does not read, say
    server.timers.advance(1000)
    assert (server.asked, server.left) == (0, [])
    assert server.timers.calls <= 1000 / SILENT_SECONDS + 1
    server.subject.begin()
    server.timers.advance(SILENT_SECONDS + LOOK_SECONDS)
    assert len(server.left) == 1


def test_it_is_asked_about_every_second_until_it_counts_as_lost() -> None:
    server = Watched(lost=False)
    server.subject.begin()
    server.timers.advance(SILENT_SECONDS + 10 * LOOK_SECONDS)
    assert server.asked == 11
    assert server.left == []
    server.lost = True
    server.timers.advance(LOOK_SECONDS)
    assert server.left == [server.timers.now]


def test_nobody_looks_after_its_end() -> None:
    server = Watched()
    server.subject.begin()
    server.subject.close()
    server.timers.advance(1000)
    assert (server.asked, server.left) == (0, [])
