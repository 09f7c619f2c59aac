"""Whole frames, whatever pieces they come in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.gateway.frames import Frames

STREAM = (
    b': hello\n\ndata: {"choices":[]}\n\ndata: a\r\n\r\n'
    b'data: {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
    b"data: [DONE]\n\nunfinished"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_bytes_are_kept_and_only_whole_frames_go_on(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    frames = Frames()
    out = b""
    for start, stop in pairwise(places):
        out += frames.feed(STREAM[start:stop])
        assert out == b"" or out.endswith((b"\n\n", b"\r\n\r\n"))
    assert out + frames.rest() == STREAM
    assert frames.rest() == b"unfinished"
    assert frames.usage == {"prompt_tokens": 3, "completion_tokens": 4}


@pytest.mark.parametrize("usage", [b"null", b"[1]", b"{", b'"usage"'])
def test_odd_usage_is_none(usage: bytes) -> None:
    frames = Frames()
    assert frames.feed(b'data: {"usage": %b}\n\n' % usage).endswith(b"\n\n")
    assert frames.usage is None


def test_an_endless_frame_is_given_up() -> None:
    frames = Frames()
    frames.feed(b"x" * 2**22)
    with pytest.raises(ValueError, match="4 MiB"):
        frames.feed(b"x")
