"""Which connections make room, and which are overdue."""

from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.asgi.heads import HEAD_BYTES
from vicuna_server.gateway.doors import Doors


class FakeDoor:
    def __init__(self, address: str = "a", awaits: float | None = 0.0) -> None:
        self.address = address
        self.awaits = awaits
        self.head_bytes = 0
        self.end = ""

    def cut(self) -> None:
        self.end = "cut"

    def time_out(self) -> None:
        self.end = "timed out"


def entered(doors: Doors, *new: FakeDoor) -> None:
    for door in new:
        assert doors.enter(door)


def ask(doors: Doors, door: FakeDoor, *, known: bool) -> None:
    door.awaits = None
    doors.asks(door)
    if known:
        doors.known(door)


def rest(doors: Doors, door: FakeDoor, now: float = 0.0) -> None:
    door.awaits = now
    doors.rests(door)


def test_those_that_leave_go_first_then_strangers_then_those_that_rest_and_none_with_a_request_of_a_key() -> None:
    doors = Doors(lambda: 4)
    busy, resting, stranger, leaving = (FakeDoor() for _ in range(4))
    entered(doors, busy, resting, stranger, leaving)
    ask(doors, busy, known=True)
    ask(doors, resting, known=True)
    rest(doors, resting)
    ask(doors, stranger, known=False)  # the page, and does not read it
    doors.closing(leaving)
    new = [FakeDoor() for _ in range(3)]
    for door, gone in zip(new, (leaving, stranger, new[0]), strict=True):
        assert doors.enter(door)
        assert (gone.end, len(doors)) == ("cut", 4)
    for door in new[1:]:
        ask(doors, door, known=True)
    assert doors.enter(FakeDoor())
    assert (resting.end, busy.end) == ("cut", "")


def test_where_all_are_at_work_nobody_is_let_in() -> None:
    doors = Doors(lambda: 2)
    one, two = FakeDoor(), FakeDoor()
    entered(doors, one, two)
    for door in (one, two):
        ask(doors, door, known=True)
    late = FakeDoor()
    assert not doors.enter(late)
    doors.leave(late)
    doors.leave(one)
    doors.leave(one)
    assert (len(doors), doors.enter(late)) == (1, True)


def test_an_address_makes_room_for_itself_alone_and_a_proxy_is_none() -> None:
    doors = Doors(lambda: 100, most_per_address=2, proxies=lambda address: address == "proxy")
    first, second, other = FakeDoor("x"), FakeDoor("x"), FakeDoor("y")
    entered(doors, other, first, second, *(FakeDoor("proxy") for _ in range(9)))
    assert doors.enter(FakeDoor("x"))
    assert (first.end, second.end, other.end) == ("cut", "", "")
    many = Doors(lambda: 100)
    entered(many, *(FakeDoor("x") for _ in range(50)))


def test_heads_under_way_are_bounded_in_all() -> None:
    doors = Doors(lambda: 1000, heads_bytes=4 * HEAD_BYTES)
    old = [FakeDoor() for _ in range(4)]
    idle = FakeDoor()
    entered(doors, idle, *old)
    for door in old:
        doors.head_came(door, HEAD_BYTES)
    assert [door.end for door in old] == [""] * 4
    new = FakeDoor()
    entered(doors, new)
    doors.head_came(new, 10)
    assert [door.end for door in (*old, idle, new)] == ["cut", "", "", "", "", ""]
    ask(doors, old[1], known=False)  # its head is whole, and counts no more
    doors.head_came(new, HEAD_BYTES)
    assert [door.end for door in (*old, new)] == ["cut", "", "", "", ""]


def test_a_head_has_its_time_and_a_known_client_that_rests_has_more() -> None:
    doors = Doors(lambda: 10, head_seconds=30)
    silent, half, resting, half_again, busy, leaving = (FakeDoor() for _ in range(6))
    entered(doors, silent, half, resting, half_again, busy, leaving)
    doors.head_came(half, 5)
    for door in (resting, half_again, busy):
        ask(doors, door, known=True)
    rest(doors, resting)
    rest(doors, half_again)
    doors.head_came(half_again, 5)
    leaving.awaits = None
    doors.closing(leaving)
    everybody = (silent, half, resting, half_again, busy, leaving)
    doors.look([], 30.0)
    assert [door.end for door in everybody] == [""] * 6
    doors.look([], 30.1)
    assert [door.end for door in everybody] == ["timed out", "timed out", "", "timed out", "", ""]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "ask", "known", "rest", "head", "closing", "look"]), st.integers(0, 7)
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_counts_are_right_and_the_bound_holds(steps: list[tuple[str, int]]) -> None:
    doors = Doors(lambda: 4, most_per_address=3)
    slots: list[FakeDoor | None] = [None] * 8
    for what, place in steps:
        door = slots[place]
        if what == "enter" and door is None:
            new = FakeDoor("ab"[place % 2])
            slots[place] = new if doors.enter(new) else None
        elif what == "look":
            doors.look([], 31.0)
        elif door is not None and door.end:
            doors.leave(door)  # the transport's word, which comes later
            slots[place] = None
        elif door is not None:
            _step(doors, door, what)
            slots[place] = None if what == "leave" else door
        there = [door for door in slots if door is not None and door.end != "cut"]
        assert len(doors) == len(there) <= 4
        assert all(sum(door.address == name for door in there) <= 3 for name in "ab")
        assert doors._heads == sum(door.head_bytes for door in there)


def _step(doors: Doors, door: FakeDoor, what: str) -> None:
    if what == "leave":
        doors.leave(door)
    elif what == "closing":
        door.awaits = None
        doors.closing(door)
    elif what == "known":
        doors.known(door)
    elif what == "head":
        doors.head_came(door, 100)
    elif what == "ask":
        ask(doors, door, known=False)
    elif what == "rest":
        rest(doors, door)
