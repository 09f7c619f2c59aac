"""Where the tokens of a prompt that is given back begin in it."""

import pytest

from vicuna_server.api.logprobs import TextOffsets
from vicuna_server.engine import PromptToken


def offsets(text: str, *pieces: bytes) -> list[int]:
    tokens = [PromptToken(number, piece) for number, piece in enumerate(pieces)]
    return TextOffsets(alternatives=False).take_prompt(tokens, text)["text_offset"]


@pytest.mark.parametrize(
    ("text", "pieces", "wanted"),
    [
        ("Two llamas", (b"Two", b" llamas"), [0, 3]),
        ("Two llamas", (b"", b" Two", b" llamas"), [0, 0, 3]),  # BOS, and sentencepiece's space before a text
        (" Two", (b"", b" Two"), [0, 0]),
        ("\u00e9a", (b"\xc3", b"\xa9", b"a"), [0, 0, 1]),
        ("\u00e9a", (b"", b" ", b"\xc3", b"\xa9", b"a"), [0, 0, 0, 0, 1]),
    ],
)
def test_offsets_are_those_of_the_text_that_is_shown(text: str, pieces: tuple[bytes, ...], wanted: list[int]) -> None:
    assert offsets(text, *pieces) == wanted
