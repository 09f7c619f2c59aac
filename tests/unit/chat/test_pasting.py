"""Long pasted texts."""

import pytest

from vicuna_server.chat.pasting import MAX_CHARACTERS, MAX_LINES, Pastes

LONG = "\n".join(f"line {number}" for number in range(60))


def test_a_short_text_is_shown_as_it_is() -> None:
    pastes = Pastes()
    for text in ("a", "a\nb", "x" * MAX_CHARACTERS, "\n".join("a" * MAX_LINES)):
        assert pastes.fold(text) == text
        assert pastes.unfold(text) == text


def test_a_long_text_is_one_word_until_it_is_sent() -> None:
    pastes = Pastes()
    first, second = pastes.fold(LONG), pastes.fold("y" * 5000)
    assert (first, second) == ("[pasted text #1, 60 lines]", "[pasted text #2, 1 line]")
    assert pastes.unfold(f"Compare {first} and {second}.") == f"Compare {LONG} and {'y' * 5000}."
    assert pastes.unfold(f"again {first}") == f"again {LONG}"  # from the history


@pytest.mark.parametrize("typed", ["[pasted text #7, 3 lines]", "[pasted text #0, 3 lines]", "[pasted text #1"])
def test_a_label_that_stands_for_nothing_stays(typed: str) -> None:
    pastes = Pastes()
    pastes.fold(LONG)
    assert pastes.unfold(typed) == typed


def test_a_label_within_a_pasted_text_is_text() -> None:
    pastes = Pastes()
    inner = pastes.fold(LONG)
    outer = pastes.fold(f"{LONG}\n{inner}")
    assert pastes.unfold(outer) == f"{LONG}\n{inner}"


def test_lines_end_in_one_way() -> None:
    assert Pastes().fold("a\r\nb\rc") == "a\nb\nc"
