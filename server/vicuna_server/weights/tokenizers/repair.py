"""Repairs a tokenizer's class and tokens where they are known to break silently."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.files.beneath import is_file, read_file

__all__ = ["CONFIG", "LLAMA_TOKENS", "SPECIAL", "repair_class", "repair_tokens", "text_of"]

CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
_LLAMA_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast")
_PLAIN_CLASS = "PreTrainedTokenizerFast"
# the defaults of LLaMA's tokenizers, written out: transformers has changed them between versions
_LLAMA_DEFAULTS = {"legacy": True, "add_bos_token": True, "add_eos_token": False}
_LLAMA3_TOKENS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
_BYTE_LEVEL = re.compile(rb'"type"\s*:\s*"ByteLevel"')
LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def repair_class(config: dict[str, Any], files: Mapping[str, Path | bytes]) -> bool:
    """Correct the class and make what LLaMA's tokenizers do explicit; return whether it is one of them.

    LLaMA's classes put sentencepiece's spaces over whatever tokenizer.json says; a byte-level one gets the class that
    leaves it alone.
    """
    if config.get("tokenizer_class") == "LLaMATokenizer":
        config["tokenizer_class"] = "LlamaTokenizer"
    named = config.get("tokenizer_class")
    if named not in _LLAMA_CLASSES and not (named is None and "tokenizer.model" in files):
        return False
    if _is_byte_level(files):
        config["tokenizer_class"] = _PLAIN_CLASS
        return False
    if named is None:
        config["tokenizer_class"] = "LlamaTokenizer"
    for key, value in _LLAMA_DEFAULTS.items():
        if config.get(key) is None:
            config[key] = value
    return True


def repair_tokens(folder: Path, tables: dict[str, dict[str, Any]], *, is_llama: bool) -> None:
    """Fill blank tokens in: from the other file, else with LLaMA's where the vocabulary has them."""
    for name, table in tables.items():
        other = tables[SPECIAL if name == CONFIG else CONFIG]
        for key in LLAMA_TOKENS:
            if _is_blank(table, key):
                table[key] = _filled_in(folder / name, key, other, is_llama=is_llama)
    if is_llama:
        _state_tokens(folder, tables, LLAMA_TOKENS)
    elif all(_knows(folder, token) for token in _LLAMA3_TOKENS.values()):
        _state_tokens(folder, tables, _LLAMA3_TOKENS)


def _is_byte_level(files: Mapping[str, Path | bytes]) -> bool:
    item = files.get("tokenizer.json", b"")
    return _BYTE_LEVEL.search(item if isinstance(item, bytes) else read_file(item)) is not None


def _state_tokens(folder: Path, tables: dict[str, dict[str, Any]], tokens: Mapping[str, str]) -> None:
    """Write a family's tokens into the configuration where neither file has them and the vocabulary does."""
    config, special = tables[CONFIG], tables[SPECIAL]
    for key, token in tokens.items():
        if key not in config and key not in special and _knows(folder, token):
            config[key] = token


def _is_blank(table: Mapping[str, Any], key: str) -> bool:
    """Tell whether a token is stated as an empty text; one that is absent or null is not stated."""
    return table.get(key) is not None and not text_of(table[key]).strip()


def _filled_in(file: Path, key: str, other: Mapping[str, Any], *, is_llama: bool) -> Any:
    """Return what a blank token must be, as the other file or the vocabulary tells."""
    if text_of(other.get(key) or "").strip():
        return other[key]
    if is_llama and _knows(file.parent, LLAMA_TOKENS[key]):
        return LLAMA_TOKENS[key]
    raise InputError("TokenizerBroken", f"{file} has a blank {key}; write the model's token there")


def _knows(folder: Path, token: str) -> bool:
    """Whether the vocabulary names the token (both formats keep it as plain text)."""
    return any(
        token.encode() in read_file(folder / name)
        for name in ("tokenizer.json", "tokenizer.model")
        if is_file(folder / name)
    )


def text_of(token: Any) -> str:
    """Return the text of a token written plainly or as an AddedToken object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
