"""A tokenizer and its template are tried out in a process of their own, within limits of memory and time."""

from pathlib import Path

import pytest

from support.checkpoints import write_tokenizer
from vicuna_server.problems import Problems
from vicuna_server.weights.tokenizers.examination import examine
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer


def _examined(folder: Path, template: str = "from-tokenizer", positions: int = 4096) -> Problems:
    problems = Problems()
    examine(read_tokenizer(folder), folder, template, {"max_position_embeddings": positions}, problems)
    return problems


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "more than 480 MiB"),
        ("{{ 'x' * 10000000000 }}", "MemoryError"),
        ("{{ messages[0]['content'] / 2 }}", "TypeError"),
        ("{{ '  ' }}", "it makes no text"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(tmp_path: Path, template: str, says: str) -> None:
    write_tokenizer(tmp_path, chat_template=template)
    [(reason, message)] = _examined(tmp_path).found
    assert reason == "ChatTemplateBroken"
    assert "tokenizer_config.json" in message
    assert says in message


def test_the_tokens_of_the_first_prompt_are_counted(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, chat_template="{{ bos_token }} {{ messages[0].content }} " + "w1 " * 30)
    problems = _examined(tmp_path, positions=20)
    assert not problems.found
    [(reason, message)] = problems.warnings
    assert reason == "ContextTooSmall"
    assert "from-tokenizer makes 32 tokens" in message


def test_a_large_tokenizer_is_loaded_apart(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, vocabulary=100_000)
    path = tmp_path / "tokenizer.json"
    assert path.stat().st_size > 2**20
    assert not _examined(tmp_path, "vicuna_v1.1").found
    path.write_bytes(path.read_bytes()[:-200])
    assert [reason for reason, _ in _examined(tmp_path, "vicuna_v1.1").found] == ["TokenizerBroken"]


def test_json_that_takes_more_memory_than_a_tokenizer_may_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-1] + b', "junk": [' + b"[]," * 7_000_000 + b"[]]}")
    [(reason, message)] = _examined(tmp_path, "vicuna_v1.1").found
    assert reason == "TokenizerBroken"
    assert "tokenizer.json cannot be loaded" in message
