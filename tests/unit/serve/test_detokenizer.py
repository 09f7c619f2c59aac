"""Token ids to text without half characters."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vicuna_server.engine.detokenizer import Detokenizer


def decode_bytes(ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are single bytes."""
    return bytes(ids).decode("utf-8", errors="replace")


def decode_words(ids: Sequence[int]) -> str:
    """A sentencepiece-like tokenizer: words carry a leading space, which is dropped at the very beginning."""
    return "".join(f" w{token}" for token in ids)[1:]


@given(st.text(max_size=20))
def test_bytes_of_characters_come_out_whole(text: str) -> None:
    detokenizer = Detokenizer(decode_bytes)
    pieces = [detokenizer.push(byte) for byte in text.encode()]
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text
    assert "".join(pieces) + detokenizer.flush() == text


def test_a_character_appears_with_its_last_byte() -> None:
    detokenizer = Detokenizer(decode_bytes)
    assert [detokenizer.push(byte) for byte in "a😀b".encode()] == ["a", "", "", "", "😀", "b"]


@given(st.lists(st.integers(0, 9), max_size=20))
def test_spaces_between_words_survive(ids: list[int]) -> None:
    detokenizer = Detokenizer(decode_words)
    assert "".join([detokenizer.push(token) for token in ids]) + detokenizer.flush() == decode_words(ids)


def test_broken_bytes_do_not_hold_the_stream_for_ever() -> None:
    detokenizer = Detokenizer(decode_bytes)
    shown = "".join(detokenizer.push(0x80) for _ in range(20))
    assert set(shown) == {"\ufffd"}


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_text_that_is_cut_ends_with_a_whole_character(cut: int) -> None:
    detokenizer = Detokenizer(decode_bytes)
    shown = "".join(detokenizer.push(byte) for byte in "né😀".encode()[: 3 + cut])
    assert shown + detokenizer.flush() == "né"


def test_work_per_token_is_bounded() -> None:
    sizes: list[int] = []

    def decode(ids: Sequence[int]) -> str:
        sizes.append(len(ids))
        return decode_words(ids)

    detokenizer = Detokenizer(decode)
    for token in range(500):
        detokenizer.push(token)
    assert max(sizes) <= 2
