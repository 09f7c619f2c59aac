"""Every file of a tokenizer is opened before it goes into an artifact, and tried out with its template."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.amount import first
from support.checkpoints import write_tokenizer
from support.pieces import train
from vicuna_server.errors import InputError
from vicuna_server.problems import Problems
from vicuna_server.weights.formats.small_file import most_bytes, read_object
from vicuna_server.weights.tokenizers.examination import context_length, examine
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer
from vicuna_server.weights.tokenizers.trial import render

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 17\n"
PAGE = b"<!doctype html><html><body>Sign in</body></html>"
EVERY_FILE = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"),
)


def _refused(folder: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_tokenizer(folder)
    return caught.value


def _examined(folder: Path, template: str = "from-tokenizer", config: dict[str, Any] | None = None) -> Problems:
    problems = Problems()
    examine(read_tokenizer(folder), folder, template, config or {}, problems)
    return problems


@pytest.mark.parametrize("name", first(EVERY_FILE, 3))
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (POINTER, "is a git-lfs pointer"),
        (PAGE, "is a web page"),
        (b"", "is empty"),
        (b"Entry not found", "holds an error message"),
        (b"\x1f\x8b" + bytes(20), "is a gzip archive"),
        (bytes(64), "holds zeros"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / name).write_bytes(content)
    error = _refused(tmp_path)
    assert error.reason == ("ChatTemplateBroken" if name.startswith("chat_template") else "TokenizerBroken")
    assert f"{name} {says}" in error.message


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_file_is_bounded_before_it_is_read(tmp_path: Path, name: str) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    with (tmp_path / name).open("wb") as file:
        file.truncate(most_bytes(name) + 1)
    assert f"has {most_bytes(name) + 1} bytes" in _refused(tmp_path).message


def test_the_bounds_are_what_published_files_need() -> None:
    assert most_bytes("tokenizer.json") == most_bytes("tokenizer.model") == 64 * 2**20
    assert (
        most_bytes("config.json")
        == most_bytes("tokenizer_config.json")
        == most_bytes("chat_template.jinja")
        == 4 * 2**20
    )


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"]
)
@pytest.mark.parametrize("content", ["[]", "5", '"text"', "{", "[" * 100_000, '{"a": "\\ud800"}'])
def test_json_of_another_kind_is_named(tmp_path: Path, name: str, content: str) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / name).write_text(content)
    error = _refused(tmp_path)
    assert error.reason == "TokenizerBroken"
    assert name in error.message


def test_half_a_surrogate_pair_is_named_and_a_whole_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": "\\ud83d\\ude42"}')
    assert read_object(tmp_path / "config.json", "NotACheckpoint", "a configuration") == {"a": "🙂"}
    (tmp_path / "config.json").write_text('{"a": {"\\udc00": 1}}')
    with pytest.raises(InputError, match="half a surrogate pair"):
        read_object(tmp_path / "config.json", "NotACheckpoint", "a configuration")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_configuration_in_another_encoding_is_written_anew(tmp_path: Path, encoding: str) -> None:
    write_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_bytes(json.dumps(content).encode(encoding))
    written = read_tokenizer(tmp_path).files["tokenizer_config.json"]
    assert isinstance(written, bytes)
    assert json.loads(written.decode()) == content


@pytest.mark.parametrize("cut", [1, 200])
def test_a_tokenizer_that_was_cut_is_named(tmp_path: Path, cut: int) -> None:
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-cut])
    [(reason, message)] = _examined(tmp_path, "vicuna_v1.1").found
    assert reason == "TokenizerBroken"
    assert "tokenizer.json cannot be loaded" in message


def test_a_tokenizer_model_beside_tokenizer_json_is_read_from_end_to_end(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(train())
    assert not _examined(tmp_path, "vicuna_v1.1").found
    (tmp_path / "tokenizer.model").write_bytes(train()[:-3])
    assert "was cut" in _examined(tmp_path, "vicuna_v1.1").found[0][1]
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")  # LLaMA 3's own
    assert not _examined(tmp_path, "vicuna_v1.1").found


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}", r"TemplateSyntaxError.*\(line 1\)"),
        ("{{ messages[3].content }}", "UndefinedError"),
        ("{{ raise_exception('no user') }}", "no user"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    ],
)
def test_what_is_wrong_with_a_template_is_told(template: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        render(template, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}{{ messages[0].content }}{% generation %}{% endgeneration %}{% if tools %}x{% endif %}",
        "{{ strftime_now('%Y') }}{{ messages | tojson }}{% for m in messages %}{% break %}{% endfor %}",
    ],
)
def test_a_template_is_rendered_as_transformers_does(template: str) -> None:
    assert "Hello" in render(template, {"bos_token": "<s>"})


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ([{"name": "tool_use", "template": "x"}], "chat templates by name (tool_use), and none called default"),
        ([{"name": "default", "template": 5}], "none called default"),
        ([5], "neither a text nor a list"),
        (5, "neither a text nor a list"),
        ({}, "neither a text nor a list"),
    ],
)
def test_a_template_that_is_none_is_named_where_it_would_be_used(tmp_path: Path, stated: Any, says: str) -> None:
    write_tokenizer(tmp_path, chat_template=stated)
    [(reason, message)] = _examined(tmp_path).found
    assert reason == "ChatTemplateBroken"
    assert says in message
    assert not _examined(tmp_path, "vicuna_v1.1").found  # another one is pinned


def test_of_several_templates_the_default_counts_and_a_file_of_its_own_before_it(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    write_tokenizer(tmp_path, chat_template=several)
    own = read_tokenizer(tmp_path).template
    assert own is not None
    assert (own.place.name, own.text) == ("tokenizer_config.json", "b")
    (tmp_path / "chat_template.jinja").write_text("c")
    own = read_tokenizer(tmp_path).template
    assert own is not None
    assert (own.place.name, own.text) == ("chat_template.jinja", "c")


def test_a_processors_template_is_not_a_tokenizers(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "chat_template.json").write_text('{"chat_template": "x"}')
    tokenizer = read_tokenizer(tmp_path)
    assert not tokenizer.has_chat_template
    with pytest.raises(InputError, match=r"chat_template\.json beside it is a processor's") as caught:
        tokenizer.chat_template_for("auto", kind="none", source_id="")
    assert caught.value.reason == "ChatTemplateUnknown"
    assert tokenizer.chat_template_for("vicuna_v1.1", kind="none", source_id="") == "vicuna_v1.1"


def test_a_context_that_holds_no_chat_is_told(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    problems = _examined(tmp_path, "vicuna_v1.1", {"max_position_embeddings": 20})
    assert not problems.found
    [(reason, message)] = problems.warnings
    assert reason == "ContextTooSmall"
    assert "20 positions" in message
    assert not _examined(tmp_path, "vicuna_v1.1", {"max_position_embeddings": 64}).warnings


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 128}, 128),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 128, "rope_scaling": {"type": "linear", "factor": 2.0}}, 256),
        ({"max_position_embeddings": 128, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 128),
        ({"max_position_embeddings": 128, "rope_scaling": {"type": "linear", "factor": "two"}}, None),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": -5}, None),
        ({}, None),
    ],
)
def test_the_context_is_what_serving_takes_from_the_config(config: dict[str, Any], length: int | None) -> None:
    assert context_length(config) == length
