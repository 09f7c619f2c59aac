"""A tokenizer's configuration, mutated with seeded dice: it is taken or refused by name, and nothing else happens."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from support.amount import examples
from support.checkpoints import write_tokenizer
from vicuna_server.errors import InputError
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer

ROUNDS = examples(120)
DEEP: Any = []
for _ in range(900):
    DEEP = [DEEP]
ODD: list[Any] = [
    *(None, True, -1, 0, 2**63, 10**400, 1e308, float("inf"), float("nan"), "", "x", "..", "a\n\x1b[31m", "\ud800"),
    *("é" * 300, [], {}, [[]], {"a": {}}, [None], DEEP, {"content": "\ud800"}, {"content": 5}, [{"name": {}}]),
]
FOUND = [
    b"[" * 60_000,
    b'{"a":' * 60_000,
    b'{"eos_token": "\\ud800"}',
    b'{"model_max_length": 1' + b"0" * 5000 + b"}",
    b'{"model_max_length": 1e999, "chat_template": [[[[]]]]}',
    b'{"chat_template": [{"name": "default", "template": "\\udfff"}]}',
    b'{"added_tokens_decoder": {"x": {"content": 5}, "99999999999999999999": null}}',
]
FIELDS = ("chat_template", "added_tokens_decoder", "bos_token", "eos_token", "tokenizer_class", "legacy", "auto_map")


def mangled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice([*value, *FIELDS])
        return {**value, key: mangled(value.get(key), dice)}
    return dice.choice(ODD)


@pytest.mark.parametrize("seed", range(3))
def test_no_configuration_of_a_tokenizer_ends_a_merge_without_its_reason(tmp_path: Path, seed: int) -> None:
    write_tokenizer(tmp_path)
    path, dice = tmp_path / "tokenizer_config.json", random.Random(seed)
    good = json.loads(path.read_text())
    contents = list(FOUND) if seed == 0 else []
    for _ in range(ROUNDS):
        value = good
        for _ in range(dice.choice((1, 1, 2, 5))):
            value = mangled(value, dice)
        contents.append(json.dumps(value).encode())
    for content in contents:
        path.write_bytes(content)
        fault = refusal(tmp_path)
        assert fault is None or fault.reason in ("TokenizerBroken", "ChatTemplateBroken"), content[:300]
        assert fault is None or len(fault.message) < 2000


def refusal(folder: Path) -> InputError | None:
    """Return why a tokenizer is refused; None: it is taken."""
    try:
        read_tokenizer(folder)
    except InputError as error:
        return error
    return None
