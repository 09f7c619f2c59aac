"""Where an answer in Markdown may be split, so that its finished blocks are printed once."""

import pytest

from vicuna_server.chat.display import split_blocks


@pytest.mark.parametrize(
    ("text", "finished", "rest"),
    [
        ("one", "", "one"),
        ("one\ntwo", "", "one\ntwo"),
        ("one\n\ntwo", "one\n\n", "two"),
        ("one\n\ntwo\n\n", "one\n\ntwo\n\n", ""),
        ("```\na\n\nb", "", "```\na\n\nb"),
        ("one\n\n```py\na\n\nb", "one\n\n", "```py\na\n\nb"),
        ("```\na\n\nb\n```\n\nend", "```\na\n\nb\n```\n\n", "end"),
        ("a ``` b\n\nc", "a ``` b\n\n", "c"),
    ],
)
def test_blank_lines_end_blocks_except_in_code(text: str, finished: str, rest: str) -> None:
    assert split_blocks(text) == (finished, rest)
