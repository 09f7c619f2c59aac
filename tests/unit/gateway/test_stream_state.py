"""What the gateway keeps of a stream: all that another server needs, within bounds, whatever a server states."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_contract.stream_state import MOST_BEGIN_BYTES, WHY_OFF
from vicuna_server.gateway.frames import Frames
from vicuna_server.gateway.stream_state import StreamState

BEGIN = b'{"key":"k","id":"chatcmpl-0","created":1,"seed":5,"cached":0}'


def _event(number: int) -> bytes:
    return b'data: {"n":%d}\n\n' % number


def _state(room: int = 10**6) -> StreamState:
    moments = iter((10.0, 12.5))
    left = [room]

    def grow(count: int) -> bool:
        left[0] -= count
        return left[0] >= 0

    return StreamState(grow, lambda: next(moments))


def _begun(room: int = 10**6) -> StreamState:
    state = _state(room)
    state.read(b"-state " + BEGIN)
    return state


def test_it_is_written_as_the_servers_stated_it() -> None:
    state = _begun()
    state.read(b"-tokens 5")
    state.read(b"-tokens 6,70000")
    state.passed(_event(1) + b": keep-alive\n\n" + _event(2))
    assert state.lasting
    assert json.loads(state.written()) == {
        "begin": json.loads(BEGIN),
        "events": 2,
        "seconds": 2.5,
        "tokens": [5, 6, 70000],
    }


@given(st.lists(st.integers(0, 60), max_size=12), st.data())
def test_events_and_tokens_are_known_however_the_bytes_are_cut(tokens: list[int], data: st.DataObject) -> None:
    stream = b": vicuna-state " + BEGIN + b'\n\n: vicuna {"usage":[1,2],"final":false}\n\n'
    for token in tokens:
        stream += b": vicuna-tokens %d\n\n" % token + _event(token)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    state = _state()
    frames = Frames(on_state=state.read)
    passed = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        complete = frames.feed(stream[start:end])
        state.passed(complete)
        passed += complete
    assert passed == b"".join(map(_event, tokens))
    assert json.loads(state.written()) | {"seconds": 0} == {
        "begin": json.loads(BEGIN),
        "events": len(tokens),
        "seconds": 0,
        "tokens": tokens,
    }


def test_the_first_statement_counts() -> None:
    state = _begun()
    state.read(b'-state {"key":"other"}')
    state.read(b'-state {"off":"seed"}')
    assert json.loads(state.written())["begin"]["key"] == "k"
    assert state.why_off == ""


@pytest.mark.parametrize("reason", WHY_OFF)
def test_why_no_other_server_can_go_on_is_known(reason: str) -> None:
    state = _state()
    state.read(b'-state {"off":"%b"}' % reason.encode())
    assert not state.lasting
    assert state.why_off == WHY_OFF[reason]


@pytest.mark.parametrize(
    "statement",
    [
        *(b"", b"{", b"[]", b"5", b"null", b'{"off":"<script>"}', b"[" * 900),
        b'{"key":"%b"}' % (b"x" * MOST_BEGIN_BYTES),
    ],
)
def test_a_statement_that_is_none_is_not_kept(statement: bytes) -> None:
    state = _state()
    state.read(b"-state " + statement)
    assert not state.lasting
    assert state.why_off == ""


@pytest.mark.parametrize("ids", [b"", b",", b"1,", b",1", b"1,,2", b"-1", b"1 2", b"x", b"1]", b"12345678901"])
def test_ids_that_are_none_end_it(ids: bytes) -> None:
    state = _begun()
    state.read(b"-tokens 1")
    state.read(b"-tokens " + ids)
    state.read(b"-tokens 2")
    assert not state.lasting


def test_it_ends_where_there_is_no_room() -> None:
    state = _begun(room=7)
    state.read(b"-tokens 1,2,3")
    assert state.lasting
    state.read(b"-tokens 4")
    assert not state.lasting


def test_other_comments_say_nothing() -> None:
    state = _state()
    state.read(b"-else {}")
    state.read(b"")
    assert not state.lasting
