"""Whole frames, whatever pieces they arrive in."""

import json
import random
import re
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.amount import examples
from vicuna_server.gateway.frames import MOST_FRAME_BYTES, Frames
from vicuna_server.gateway.response_head import BadResponseError
from vicuna_server.protocol.counts import Used

STREAM = (
    b': hello\n\ndata: {"choices":[]}\n\ndata: a\r\n\r\ndata: b\n\r\ndata: c\r\r'
    b'data: {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\nevent: x\nretry: 1\ndata: d\n\n'
)
DONE = b"data: [DONE]\n\n"


def _fed(stream: bytes, cuts: list[int], told: Callable[[Used], None] = lambda _: None) -> tuple[Frames, bytes]:
    frames, out = Frames(told), b""
    for start, stop in pairwise([0, *sorted(cuts), len(stream)]):
        out += frames.feed(stream[start:stop])
        assert out == b"" or out.endswith((b"\n\n", b"\n\r\n", b"\r\r"))
    return frames, out


@given(st.lists(st.integers(0, len(STREAM) + 10), max_size=12))
def test_bytes_are_kept_and_only_whole_frames_go_on(cuts: list[int]) -> None:
    seen: list[Used] = []
    frames, out = _fed(STREAM + b"unfinished", cuts, seen.append)
    assert out + frames.rest() == STREAM + b"unfinished"
    assert frames.rest() == b"unfinished"
    assert seen == [(3, 4)]
    assert not frames.done


@given(
    st.lists(st.integers(0, len(STREAM) + 40), max_size=12),
    st.sampled_from([DONE, b"data:[DONE]\r\n\r\n", b"id: 1\ndata: [DONE] \nid: 2\n\n", b"data: [DONE]\r\r"]),
)
def test_a_stream_ends_with_done_whatever_comes_behind_it(cuts: list[int], done: bytes) -> None:
    behind = b'data: {"usage":{"prompt_tokens":9}}\n\ndata: more\n\nand'
    seen: list[Used] = []
    frames, out = _fed(STREAM + done + behind, cuts, seen.append)
    assert frames.done
    assert out == STREAM + done
    assert frames.rest() == frames.feed(b"data: x\n\n") == b""
    assert seen == [(3, 4)]


@pytest.mark.parametrize(
    "words", [b'data: "[DONE]"', b"data: [DONE]x", b": data: [DONE]", b"[DONE]", b'data: "\\ndata: [DONE]"']
)
def test_what_only_speaks_of_the_end_is_not_the_end(words: bytes) -> None:
    frames = Frames()
    assert frames.feed(words + b"\n\n") + frames.feed(b"data: on\n\n") == words + b"\n\ndata: on\n\n"
    assert not frames.done


@pytest.mark.parametrize(("whole", "piece"), [(1, 7), (0, 4096), (3, 65_535), (2, MOST_FRAME_BYTES), (1, 10**6)])
def test_a_frame_of_more_than_256_kib_is_given_up_in_whatever_pieces(whole: int, piece: int) -> None:
    frames, good = Frames(), b"data: x\n\n" * whole
    large = good + b"x" * (MOST_FRAME_BYTES - 2) + b"\n\n" + good
    assert frames.feed(large) == large
    too_large = good + b"x" * (MOST_FRAME_BYTES - 1) + b"\n\n" + good
    with pytest.raises(BadResponseError, match="256 KiB"):
        _fed(too_large, list(range(0, len(too_large), piece)))


@pytest.mark.parametrize("piece", [4096, 65_536, 10**6])
def test_a_larger_frame_passes_as_long_as_there_is_room_for_it(piece: int) -> None:
    asked: list[int] = []

    def grow(count: int) -> bool:
        asked.append(count)
        return sum(asked) <= 2**20

    frames = Frames(grow=grow)
    large = b"data: x\n\n" + b"x" * (MOST_FRAME_BYTES + 2**20 - 2) + b"\n\ndata: y\n\n"
    parts = [large[start : start + piece] for start in range(0, len(large), piece)]
    assert b"".join(map(frames.feed, parts)) == large
    assert sum(asked) == 2**20
    assert b"".join(map(frames.feed, parts)) == large  # its room is there for the next
    assert sum(asked) == 2**20
    larger = large.replace(b"\n\ndata: y", b"xxdata: y")
    with pytest.raises(BadResponseError, match="1280 KiB"):
        b"".join(frames.feed(larger[start : start + piece]) for start in range(0, len(larger), piece))


@pytest.mark.long
def test_single_bytes_cost_time_in_proportion_to_their_number() -> None:
    def seconds(count: int) -> float:
        frames, started = Frames(), time.process_time()
        for _ in range(count):
            frames.feed(b"x")
        return time.process_time() - started

    small = min(seconds(8_000) for _ in range(3))
    # 25 times the bytes; a scan or a copy of all that is held would make it 600 times the work
    assert seconds(200_000) < 200 * small


@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_whatever_bytes_come_they_go_on_in_order_and_little_is_held(dice: random.Random, pieces: int) -> None:
    words = [b"\n", b"\r", b"\r\n", b"data: ", b"[DONE]", b'{"usage":{"prompt_tokens":1}}', b"\0\xff", b"x" * 9000]
    stream = [b"".join(dice.choices(words, k=dice.randint(0, 8))) for _ in range(pieces)]
    frames, out = Frames(), b""
    for piece in stream:
        out += frames.feed(piece)
        assert len(frames.rest()) <= MOST_FRAME_BYTES
    whole = b"".join(stream)
    assert whole.startswith(out + frames.rest())
    assert frames.done or out + frames.rest() == whole
    assert not re.search(rb"\n\n|\n\r\n|\r\r", frames.rest())


OWN = b': vicuna {"usage":[3,4],"final":false}\n\n'


@given(st.lists(st.integers(0, 200), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_frame_that_is_only_for_the_gateway_sends_nothing_on(cuts: list[int], end: bytes) -> None:
    last = b': vicuna {"usage":[3,5],"final":true,"more":[1]}\n\n'
    seen: list[Used] = []
    stream = (OWN + b"data: a\n\n" + OWN + b"data: b\n\n" + last + DONE).replace(b"\n", end)
    frames, out = _fed(stream, cuts, seen.append)
    assert out == (b"data: a\n\ndata: b\n\n" + DONE).replace(b"\n", end)
    assert (seen[-1], frames.counts) == ((3, 5), ((3, 5), True))


def test_a_comment_within_a_frame_goes_without_ending_it() -> None:
    frames = Frames()
    assert frames.feed(b"data: a\n: vicuna x\n: vicuna\ndata: b\n: vicuna y\n\n") == b"data: a\ndata: b\n\n"
    assert frames.feed(b": one\n" + OWN + b": keep-alive\n\n") == b": one\n\n: keep-alive\n\n"
    frames.feed(b"data: end\n: vicuna half")
    assert frames.rest() == b"data: end\n"


@given(st.text())
def test_a_models_words_are_no_comment(words: str) -> None:
    seen: list[Used] = []
    text = words + "\n" + OWN.decode() + words
    for ascii_only in (True, False):
        event = b"data: " + json.dumps({"text": text}, ensure_ascii=ascii_only).encode(errors="replace") + b"\n\n"
        assert Frames(seen.append).feed(event) == event
    assert not seen


def test_counts_of_comments_go_before_those_of_events() -> None:
    seen: list[Used] = []
    frames = Frames(seen.append)
    frames.feed(b'data: {"usage":{"prompt_tokens":9}}\n\n' + OWN + b'data: {"usage":{"prompt_tokens":8}}\n\n')
    frames.feed(b'data: {"usage":{"prompt_tokens":7}}\n\n')
    assert seen == [(3, 4)]


WILD = [
    *[
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: x",
        b"x",
        b": vicuna",
        b": vicuna ",
        b":vicuna ",
        b" : vicuna ",
        b": keep",
    ],
    *[
        b'{"usage":[1,2]}',
        b'{"usage":[-1,2]}',
        b'{"usage":[1,' + b"9" * 5000 + b"]}",
        b'{"usage":[1e3,2]}',
        b"[" * 3000,
    ],
    *[b'{"usage":[true,2]}', b'{"usage":[2147483648,0]}', b'{"usage":[2147483647,0]}', b'{"usage":[1,2,3]}', b"null"],
    *[b'{"usage":{"a":1}}', b'{"final":1,"usage":[5,5]}', b"\xff\xfe", b'{"usage":', b"NaN", b'"\\ud800"', b"\0"],
]


@pytest.mark.long
@settings(max_examples=examples(300))
@given(st.lists(st.lists(st.sampled_from(WILD), max_size=12), max_size=12))
def test_whatever_comments_a_server_writes_none_reaches_a_client_and_nothing_else_is_lost(
    pieces: list[list[bytes]],
) -> None:
    seen: list[Used] = []
    frames, out, stream = Frames(seen.append), b"", b""
    for piece in map(b"".join, pieces):
        stream += piece
        out += frames.feed(piece)
    out += frames.rest()
    assert _events(out) == _events(stream, own=False)
    assert all(0 <= count < 2**31 for used in seen for count in used)


def _events(stream: bytes, *, own: bool = True) -> list[list[bytes]]:
    """Return the lines of each event, as the standard reads them."""
    events: list[list[bytes]] = [[]]
    for line in re.split(rb"\r\n|\r|\n", stream):
        if not line:
            events.append([])
        elif own or not line.startswith(b": vicuna"):
            events[-1].append(line)
    return [event for event in events if event]


def test_comments_cost_time_in_proportion_to_their_bytes() -> None:
    def seconds(comment: bytes, count: int) -> float:
        frames, started = Frames(), time.process_time()
        assert frames.feed(comment * count + b"data: x\n\n").endswith(b"data: x\n\n")
        return time.process_time() - started

    for comment in (b": vicuna \n\n", b": vicuna {}\n", b"x: vicuna \n\n"):
        small = min(seconds(comment, 400) for _ in range(3))
        assert seconds(comment, 10_000) < 200 * max(small, 1e-5)


PIECES = [
    b": vicuna-tokens 1",
    b": vicuna-tokens 22,3",
    b": vicuna {}",
    b"\n\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"data: x",
    b"x",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_the_short_way_of_a_comment_in_front_is_the_long_one(rest: bytes) -> None:
    stream = b": vicuna-tokens 7" + rest
    seen: list[bytes] = []
    short, long = Frames(on_state=seen.append), Frames(on_state=seen.append)
    passed = short.feed(stream)
    count = len(seen)
    behind = long.feed(b": hi\n\n" + stream)  # its first frame is another
    assert behind.removeprefix(b": hi\n\n") == passed
    assert seen[:count] == seen[count:]
