"""Whole frames, whatever pieces they come in."""

import random
import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicuna_server.gateway.answer_head import BadAnswerError
from vicuna_server.gateway.frames import MOST_FRAME_BYTES, Frames

STREAM = (
    b': hello\n\ndata: {"choices":[]}\n\ndata: a\r\n\r\ndata: b\n\r\ndata: c\r\r'
    b'data: {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\nevent: x\nretry: 1\ndata: d\n\n'
)
DONE = b"data: [DONE]\n\n"


def _fed(stream: bytes, cuts: list[int]) -> tuple[Frames, bytes]:
    frames, out = Frames(), b""
    for start, stop in pairwise([0, *sorted(cuts), len(stream)]):
        out += frames.feed(stream[start:stop])
        assert out == b"" or out.endswith((b"\n\n", b"\n\r\n", b"\r\r"))
    return frames, out


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM) + 10), max_size=12))
def test_bytes_are_kept_and_only_whole_frames_go_on(cuts: list[int]) -> None:
    frames, out = _fed(STREAM + b"unfinished", cuts)
    assert out + frames.rest() == STREAM + b"unfinished"
    assert frames.rest() == b"unfinished"
    assert frames.usage == {"prompt_tokens": 3, "completion_tokens": 4}
    assert not frames.done


@settings(deadline=None)
@given(
    st.lists(st.integers(0, len(STREAM) + 40), max_size=12),
    st.sampled_from([DONE, b"data:[DONE]\r\n\r\n", b"id: 1\ndata: [DONE] \nid: 2\n\n", b"data: [DONE]\r\r"]),
)
def test_a_stream_ends_with_done_whatever_comes_behind_it(cuts: list[int], done: bytes) -> None:
    behind = b'data: {"usage":{"prompt_tokens":9}}\n\ndata: more\n\nand'
    frames, out = _fed(STREAM + done + behind, cuts)
    assert frames.done
    assert out == STREAM + done
    assert frames.rest() == frames.feed(b"data: x\n\n") == b""
    assert frames.usage == {"prompt_tokens": 3, "completion_tokens": 4}


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
    with pytest.raises(BadAnswerError, match="256 KiB"):
        _fed(too_large, list(range(0, len(too_large), piece)))


def test_single_bytes_cost_time_in_proportion_to_their_number() -> None:
    def seconds(count: int) -> float:
        frames, started = Frames(), time.process_time()
        for _ in range(count):
            frames.feed(b"x")
        return time.process_time() - started

    small = min(seconds(8_000) for _ in range(3))
    # 25 times the bytes; a scan or a copy of all that is held would make it 600 times the work
    assert seconds(200_000) < 200 * small


@settings(deadline=None)
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
