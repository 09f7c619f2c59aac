"""Questions of several lines between quotation marks."""

import pytest

from vicuna_server.chat.multiline import is_open, unquoted


@pytest.mark.parametrize(
    ("text", "opened"),
    [('"""', True), (' """a', True), ('"""a"""', False), ("a", False), ('a """', False), ('"""""', True)],
)
def test_quotes_at_the_beginning_are_open_until_there_are_three_more(text: str, opened: bool) -> None:
    assert is_open(text) is opened


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ('"""a\nb"""', "a\nb"),
        (' """\n  a\n"""\n', "  a"),
        ('"""a""" b', '"""a""" b'),
        ('"""a""" """b"""', '"""a""" """b"""'),
        ('""""', '""""'),
        ("a", "a"),
    ],
)
def test_only_quotes_around_the_whole_text_are_taken_off(text: str, question: str) -> None:
    assert unquoted(text) == question
