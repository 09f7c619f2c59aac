"""Which connections make room, and which are overdue."""

from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.asgi.heads import HEAD_BYTES
from vicuna_server.gateway.connection_limits import ConnectionLimits


class FakeConnection:
    def __init__(self, address: str = "a", waiting_since: float | None = 0.0) -> None:
        self.address = address
        self.waiting_since = waiting_since
        self.head_bytes = 0
        self.end = ""

    def abort(self) -> None:
        self.end = "aborted"

    def time_out(self) -> None:
        self.end = "timed out"


def entered(limits: ConnectionLimits, *new: FakeConnection) -> None:
    for connection in new:
        assert limits.admit(connection)


def ask(limits: ConnectionLimits, connection: FakeConnection, *, known: bool) -> None:
    connection.waiting_since = None
    limits.mark_busy(connection)
    if known:
        limits.mark_authenticated(connection)


def rest(limits: ConnectionLimits, connection: FakeConnection, now: float = 0.0) -> None:
    connection.waiting_since = now
    limits.mark_idle(connection)


def test_those_that_leave_go_first_then_strangers_then_those_that_rest_and_none_with_a_request_of_a_key() -> None:
    limits = ConnectionLimits(lambda: 4)
    busy, resting, stranger, leaving = (FakeConnection() for _ in range(4))
    entered(limits, busy, resting, stranger, leaving)
    ask(limits, busy, known=True)
    ask(limits, resting, known=True)
    rest(limits, resting)
    ask(limits, stranger, known=False)  # it asks for the page, and does not read it
    limits.mark_closing(leaving)
    new = [FakeConnection() for _ in range(3)]
    for connection, gone in zip(new, (leaving, stranger, new[0]), strict=True):
        assert limits.admit(connection)
        assert (gone.end, len(limits)) == ("aborted", 4)
    for connection in new[1:]:
        ask(limits, connection, known=True)
    assert limits.admit(FakeConnection())
    assert (resting.end, busy.end) == ("aborted", "")


def test_where_all_are_at_work_nobody_is_let_in() -> None:
    limits = ConnectionLimits(lambda: 2)
    one, two = FakeConnection(), FakeConnection()
    entered(limits, one, two)
    for connection in (one, two):
        ask(limits, connection, known=True)
    late = FakeConnection()
    assert not limits.admit(late)
    limits.remove(late)
    limits.remove(one)
    limits.remove(one)
    assert (len(limits), limits.admit(late)) == (1, True)


def test_an_address_makes_room_for_itself_alone_and_a_proxy_is_none() -> None:
    limits = ConnectionLimits(lambda: 100, most_per_address=2, proxies=lambda address: address == "proxy")
    first, second, other = FakeConnection("x"), FakeConnection("x"), FakeConnection("y")
    entered(limits, other, first, second, *(FakeConnection("proxy") for _ in range(9)))
    assert limits.admit(FakeConnection("x"))
    assert (first.end, second.end, other.end) == ("aborted", "", "")
    many = ConnectionLimits(lambda: 100)
    entered(many, *(FakeConnection("x") for _ in range(50)))


def test_heads_under_way_are_bounded_in_all() -> None:
    limits = ConnectionLimits(lambda: 1000, heads_bytes=4 * HEAD_BYTES)
    old = [FakeConnection() for _ in range(4)]
    idle = FakeConnection()
    entered(limits, idle, *old)
    for connection in old:
        limits.add_head_bytes(connection, HEAD_BYTES)
    assert [connection.end for connection in old] == [""] * 4
    new = FakeConnection()
    entered(limits, new)
    limits.add_head_bytes(new, 10)
    assert [connection.end for connection in (*old, idle, new)] == ["aborted", "", "", "", "", ""]
    ask(limits, old[1], known=False)  # its head is complete, and is not counted any more
    limits.add_head_bytes(new, HEAD_BYTES)
    assert [connection.end for connection in (*old, new)] == ["aborted", "", "", "", ""]


def test_a_head_has_its_time_and_a_known_client_that_rests_has_more() -> None:
    limits = ConnectionLimits(lambda: 10, head_seconds=30)
    silent, half, resting, half_again, busy, leaving = (FakeConnection() for _ in range(6))
    entered(limits, silent, half, resting, half_again, busy, leaving)
    limits.add_head_bytes(half, 5)
    for connection in (resting, half_again, busy):
        ask(limits, connection, known=True)
    rest(limits, resting)
    rest(limits, half_again)
    limits.add_head_bytes(half_again, 5)
    leaving.waiting_since = None
    limits.mark_closing(leaving)
    everybody = (silent, half, resting, half_again, busy, leaving)
    limits.look([], 30.0)
    assert [connection.end for connection in everybody] == [""] * 6
    limits.look([], 30.1)
    assert [connection.end for connection in everybody] == ["timed out", "timed out", "", "timed out", "", ""]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "ask", "known", "rest", "head", "closing", "look"]), st.integers(0, 7)
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_counts_are_right_and_the_bound_holds(steps: list[tuple[str, int]]) -> None:
    limits = ConnectionLimits(lambda: 4, most_per_address=3)
    slots: list[FakeConnection | None] = [None] * 8
    for what, place in steps:
        connection = slots[place]
        if what == "enter" and connection is None:
            new = FakeConnection("ab"[place % 2])
            slots[place] = new if limits.admit(new) else None
        elif what == "look":
            limits.look([], 31.0)
        elif connection is not None and connection.end:
            limits.remove(connection)  # as the transport does later
            slots[place] = None
        elif connection is not None:
            _step(limits, connection, what)
            slots[place] = None if what == "leave" else connection
        there = [connection for connection in slots if connection is not None and connection.end != "aborted"]
        assert len(limits) == len(there) <= 4
        assert all(sum(connection.address == name for connection in there) <= 3 for name in "ab")
        assert limits._heads == sum(connection.head_bytes for connection in there)


def _step(limits: ConnectionLimits, connection: FakeConnection, what: str) -> None:
    if what == "leave":
        limits.remove(connection)
    elif what == "closing":
        connection.waiting_since = None
        limits.mark_closing(connection)
    elif what == "known":
        limits.mark_authenticated(connection)
    elif what == "head":
        limits.add_head_bytes(connection, 100)
    elif what == "ask":
        ask(limits, connection, known=False)
    elif what == "rest":
        rest(limits, connection)
