"""The tokenizer's files: copied byte for byte, except for what is known to break silently."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.merge.checkpoint import TOKENIZER_FILES

__all__ = ["Tokenizer", "read_tokenizer"]

_LLAMA_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast")
_LLAMA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@dataclass(frozen=True)
class Tokenizer:
    """Files to put into the artifact by name: a path to copy or the repaired content; and its own template."""

    files: dict[str, Path | bytes]
    has_chat_template: bool


def read_tokenizer(folder: Path) -> Tokenizer:
    """Gather the tokenizer files of a folder and repair what old releases have wrong.

    Repaired: the class name `LLaMATokenizer` (loads without BOS), a missing `legacy` of LLaMA's tokenizers (text
    after `</s>` would be cut otherwise), blank bos, eos and unk tokens of LLaMA's tokenizers.

    Raises:
        InputError: `TokenizerBroken`.
    """
    files: dict[str, Path | bytes] = {name: folder / name for name in TOKENIZER_FILES if (folder / name).is_file()}
    if not ({"tokenizer.json", "tokenizer.model"} & files.keys() or {"vocab.json", "merges.txt"} <= files.keys()):
        raise InputError(
            "TokenizerBroken", f"{folder} has no tokenizer.json or tokenizer.model; put the tokenizer's files there"
        )
    config = _read_object(folder / "tokenizer_config.json")
    special = _read_object(folder / "special_tokens_map.json")
    is_llama = _repair_class(config, files)
    for name, table in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        before = _read_object(folder / name)
        for key, token in _LLAMA_TOKENS.items():
            if key in table and not _text(table[key]).strip() and table[key] is not None:
                if not (is_llama and _knows(folder, token)):
                    raise InputError(
                        "TokenizerBroken", f"{folder / name} has a blank {key}; write the model's token there"
                    )
                table[key] = token
        if table != before:
            files[name] = (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()
    own = bool(config.get("chat_template")) or "chat_template.jinja" in files or "chat_template.json" in files
    return Tokenizer(files, own)


def _repair_class(config: dict[str, Any], files: dict[str, Path | bytes]) -> bool:
    """Correct the class and `legacy`; return whether it is one of LLaMA's tokenizers."""
    if config.get("tokenizer_class") == "LLaMATokenizer":
        config["tokenizer_class"] = "LlamaTokenizer"
    named = config.get("tokenizer_class")
    is_llama = named in _LLAMA_CLASSES or (named is None and "tokenizer.model" in files)
    if is_llama and config.get("legacy") is None:
        config["legacy"] = True
    return is_llama


def _knows(folder: Path, token: str) -> bool:
    """Whether the vocabulary names the token (both formats keep it as plain text)."""
    return any(
        token.encode() in (folder / name).read_bytes()
        for name in ("tokenizer.json", "tokenizer.model")
        if (folder / name).is_file()
    )


def _text(token: Any) -> str:
    """Return the text of a token written plainly or as an AddedToken object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError("TokenizerBroken", f"{path} cannot be read as JSON; fetch it again") from error
    if not isinstance(content, dict):
        raise InputError("TokenizerBroken", f"{path} is no JSON object; fetch it again")
    return content
