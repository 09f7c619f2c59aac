"""Tokenizer files are copied as they are, save for what is known to break silently."""

import json
from pathlib import Path

import pytest

from support.pieces import train
from vicuna_server.errors import InputError
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer

_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_EXPLICIT = {"add_bos_token": True, "add_eos_token": False}


def _folder(path: Path, config: dict[str, object] | None = None, special: dict[str, object] | None = None) -> Path:
    (path / "tokenizer.model").write_bytes(train())
    if config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    if special is not None:
        (path / "special_tokens_map.json").write_text(json.dumps(special))
    return path


def _config(files: dict[str, Path | bytes], name: str = "tokenizer_config.json") -> dict[str, object]:
    content = files[name]
    assert isinstance(content, bytes)
    parsed: dict[str, object] = json.loads(content)
    return parsed


def test_a_sound_tokenizer_is_left_alone(tmp_path: Path) -> None:
    sound = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": False, "add_eos_token": True}
    sound |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": None, "chat_template": "{{ x }}"}
    folder = _folder(tmp_path, sound)
    (folder / "tokenizer.json").write_text("{}")
    found = read_tokenizer(folder)
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
    assert found.files == {name: tmp_path / name for name in names}
    assert found.has_chat_template


def test_the_old_class_name_is_repaired_and_legacy_added(tmp_path: Path) -> None:
    found = read_tokenizer(_folder(tmp_path, {"tokenizer_class": "LLaMATokenizer", "model_max_length": 7}))
    want = {"tokenizer_class": "LlamaTokenizer", "legacy": True, "model_max_length": 7, **_EXPLICIT, **_TOKENS}
    assert _config(found.files) == want
    assert not found.has_chat_template


@pytest.mark.parametrize("blank", ["", {"content": "", "__type": "AddedToken"}])
def test_blank_tokens_of_llama_are_repaired_in_both_files(tmp_path: Path, blank: object) -> None:
    tokens = {"bos_token": blank, "eos_token": blank, "unk_token": blank}
    folder = _folder(tmp_path, {"tokenizer_class": "LLaMATokenizer", **tokens}, dict(tokens))
    files = read_tokenizer(folder).files
    assert _TOKENS.items() <= _config(files).items()
    assert _config(files, "special_tokens_map.json") == _TOKENS


def test_a_blank_token_is_taken_from_the_other_file(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"tokenizer_class": "LlamaTokenizer", "bos_token": ""}, {"bos_token": "</s>"})
    assert _config(read_tokenizer(folder).files)["bos_token"] == "</s>"


def test_blank_tokens_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"tokenizer_class": "GPT2Tokenizer", "eos_token": ""})
    with pytest.raises(InputError, match="blank eos_token") as caught:
        read_tokenizer(folder)
    assert caught.value.reason == "TokenizerBroken"


def test_blank_tokens_are_not_invented_for_a_vocabulary_without_them(tmp_path: Path) -> None:
    folder = _folder(tmp_path, {"tokenizer_class": "LlamaTokenizer", "eos_token": ""})
    (folder / "tokenizer.model").write_bytes(b"no such pieces")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="blank eos_token"):
        read_tokenizer(folder)


def test_no_vocabulary_is_not_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no tokenizer\.json") as caught:
        read_tokenizer(tmp_path)
    assert caught.value.reason == "TokenizerBroken"


def test_a_config_that_is_not_json_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config\.json cannot be read as JSON"):
        read_tokenizer(folder)


def test_an_unknown_prompt_format_asks_for_the_field(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="chatTemplate") as caught:
        read_tokenizer(_folder(tmp_path)).chat_template_for("auto", kind="additive-v1.1", source_id="me/vicuna-7b")
    assert caught.value.reason == "ChatTemplateUnknown"
