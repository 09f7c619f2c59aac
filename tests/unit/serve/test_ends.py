"""Which tokens end an answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.characters import make_tokenizer
from support.opened import opened
from vicuna_server.engine.ends import end_ids, end_ids_of_folder
from vicuna_server.prompts.tokenizer import JsonTokenizer

pytestmark = pytest.mark.transformers
END, OPENING, TEXT = 99, 100, 3  # "<|im_end|>", "<|im_start|>", "#"


@pytest.fixture(scope="module")
def tokenizer() -> JsonTokenizer:
    return opened(make_tokenizer())


def named(value: Any) -> Any:
    return {"eos_token_id": value}


@pytest.mark.parametrize(
    ("configs", "ends"),
    [
        ((), {END}),
        (({}, named(None)), {END}),
        ((named(END), named([OPENING, END])), {END, OPENING}),
        ((named(TEXT),), {END}),  # another model's end, plain text here
        ((named([TEXT, OPENING]), {}), {END, OPENING}),
        ((named(-1), named([10**6, "x"])), {END, 10**6}),
    ],
)
def test_an_id_that_is_plain_text_ends_nothing(
    tokenizer: JsonTokenizer, configs: tuple[Any, ...], ends: set[int]
) -> None:
    assert end_ids(tokenizer, *configs) == ends


def test_a_tokenizer_without_an_end_believes_the_configs() -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    assert end_ids(opened(tokenizer), named(TEXT), {}) == {TEXT}


def test_both_configs_of_a_folder_name_ends(tokenizer: JsonTokenizer, tmp_path: Path) -> None:
    assert end_ids_of_folder(tokenizer, tmp_path) == {END}
    (tmp_path / "generation_config.json").write_text(json.dumps(named([OPENING])))
    (tmp_path / "config.json").write_text(json.dumps(named(TEXT)))
    assert end_ids_of_folder(tokenizer, tmp_path) == {END, OPENING}
    (tmp_path / "generation_config.json").write_text("[")
    assert end_ids_of_folder(tokenizer, tmp_path) == {END}
