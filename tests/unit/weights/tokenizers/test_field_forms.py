"""What the fields of a tokenizer's configuration must be: transformers itself is the judge of the table."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.amount import one_of_five
from support.checkpoints import CONFIG, write_tokenizer
from vicuna_server.errors import InputError
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer

TOKEN = {"content": "w1", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
ODD: list[Any] = [
    None,
    "left",
    True,
    3,
    1.5,
    "",
    "x",
    [],
    [1],
    ["w1"],
    [None],
    [TOKEN],
    {},
    {"a": 1},
    {"a": "w1"},
    {"5": TOKEN},
]
ODD += [{"content": 5}, TOKEN, {"__type": "AddedToken", **TOKEN}]
FIELDS = {
    "tokenizer_config.json": [
        *("unk_token", "pad_token", "mask_token", "own_token", "extra_special_tokens", "additional_special_tokens"),
        *("model_specific_special_tokens", "added_tokens_decoder", "tokenizer_class", "model_max_length"),
        *("padding_side", "truncation_side", "split_special_tokens", "model_input_names", "legacy", "add_bos_token"),
    ],
    "special_tokens_map.json": ["unk_token", "pad_token", "own_token", "additional_special_tokens"],
}


def read(folder: Path) -> tuple[dict[str, Path | bytes], str]:
    """The files, or why there are none."""
    try:
        return read_tokenizer(folder).files, ""
    except InputError as error:
        return {}, error.message


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("name", "field"), one_of_five((name, field) for name, fields in FIELDS.items() for field in fields)
)
def test_what_is_taken_can_be_loaded(tmp_path: Path, name: str, field: str) -> None:
    from transformers import AutoTokenizer

    source, result = tmp_path / "source", tmp_path / "result"
    source.mkdir()
    write_tokenizer(source)
    path = source / name
    sound = json.loads(path.read_text()) if path.exists() else {}
    taken = 0
    for number, value in enumerate(ODD):
        path.write_text(json.dumps(sound | {field: value}))
        files, refusal = read(source)
        if refusal:
            assert f"{path}: {field} is " in refusal or "has a blank" in refusal
            continue
        taken += 1
        folder = result / str(number)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(CONFIG))
        for file, item in files.items():
            (folder / file).write_bytes(item if isinstance(item, bytes) else item.read_bytes())
        AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert taken, "a field that takes nothing"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pad_token", "w1"),
        ("pad_token", None),
        ("pad_token", TOKEN),
        ("mask_token", {"__type": "AddedToken", **TOKEN}),
        ("additional_special_tokens", ["w1"]),
        ("extra_special_tokens", {"image_token": "w1"}),
        ("added_tokens_decoder", {"3": TOKEN}),
        ("model_max_length", 1e30),
        ("padding_side", "left"),
    ],
)
def test_what_repositories_say_is_taken(tmp_path: Path, field: str, value: Any) -> None:
    write_tokenizer(tmp_path, **{field: value})
    assert read_tokenizer(tmp_path).files
