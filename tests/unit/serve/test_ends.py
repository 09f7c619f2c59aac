"""Which tokens end an answer."""

from types import SimpleNamespace
from typing import Any

import pytest

from support.characters import make_tokenizer
from vicuna_server.engine.builtin.ends import end_ids

TOKENIZER = make_tokenizer()
END, OPENING, TEXT = TOKENIZER.eos_token_id, TOKENIZER.convert_tokens_to_ids("<|im_start|>"), 3  # 3 is "#"


def named(value: Any) -> Any:
    return SimpleNamespace(eos_token_id=value)


@pytest.mark.parametrize(
    ("configs", "ends"),
    [
        ((), {END}),
        ((None, named(None)), {END}),
        ((named(END), named([OPENING, END])), {END, OPENING}),
        ((named(TEXT),), {END}),  # another model's end, plain text here
        ((named([TEXT, OPENING]), None), {END, OPENING}),
        ((named(-1), named([10**6, "x"])), {END, 10**6}),
    ],
)
def test_an_id_that_is_plain_text_ends_nothing(configs: tuple[Any, ...], ends: set[int]) -> None:
    assert end_ids(TOKENIZER, *configs) == ends


def test_a_tokenizer_without_an_end_believes_the_configs() -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    assert end_ids(tokenizer, named(TEXT), None) == {TEXT}
