"""What the small files beside a tokenizer.json say: special tokens, added tokens and chat templates."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from tokenizers import AddedToken, Tokenizer

from vicuna_server.errors import InputError

__all__ = ["TOKENIZER_FILE", "TokenizerFiles", "read_files"]

TOKENIZER_FILE = "tokenizer.json"
_CONFIG, _SPECIAL, _ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_TEMPLATE, _FURTHER_TEMPLATES = "chat_template.jinja", "additional_chat_templates"
_NAMES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
"""In the order in which transformers adds those that a vocabulary lacks."""
_EXTRA, _OLD_EXTRA, _DECODER = "extra_special_tokens", "additional_special_tokens", "added_tokens_decoder"

Key = TypeVar("Key", str, int)


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What tokenizer_config.json, special_tokens_map.json, added_tokens.json and the template files say.

    Attributes:
        config: tokenizer_config.json.
        model_type: Of config.json; empty where it names none.
        named: Special tokens by name, such as `bos_token`.
        extra: Special tokens without a name.
        added: Added tokens by id.
        chat_template: Jinja, or several by name; None: there is none.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    model_type: str = ""
    named: Mapping[str, AddedToken] = field(default_factory=dict)
    extra: tuple[AddedToken, ...] = ()
    added: Mapping[int, AddedToken] = field(default_factory=dict)
    chat_template: str | Mapping[str, str] | None = None

    @property
    def splits_special(self) -> bool:
        """Whether special tokens in any text are text, as the configuration may ask."""
        return self.config.get("split_special_tokens") is True

    def with_tokens_of(self, backend: Tokenizer) -> Self:
        """Return them with the tokens of tokenizer.json: those the configuration says nothing of.

        Its added tokens count where the configuration has none, and its padding names the token to pad with.
        """
        named = dict(self.named)
        if backend.padding is not None and "pad_token" not in self.config:
            named.setdefault("pad_token", AddedToken(backend.padding["pad_token"], special=True))
        added = self.added if _DECODER in self.config else {**self.added, **backend.get_added_tokens_decoder()}
        return replace(self, named=named, added=added).with_forms_of_added()

    def with_forms_of_added(self) -> Self:
        """Return them with each named token in the form in which it is among the added ones, if it is."""
        known = {str(token.content): token for token in self.added.values()}
        return replace(self, named={name: known.get(str(one.content), one) for name, one in self.named.items()})


def read_files(folder: Path) -> TokenizerFiles:
    """Read them; a file that is not there says nothing.

    Raises:
        InputError: `TokenizerBroken` or `ChatTemplateBroken`, naming the file.
    """
    config = _table(folder / _CONFIG)
    stated = config if _DECODER in config else {**config, **_table(folder / _SPECIAL)}
    named, extra = _named_and_extra(stated)
    special = {str(token.content) for token in (*named.values(), *extra)}
    added = _decoder(config[_DECODER]) if _DECODER in config else _added_file(folder / _ADDED, special)
    model_type = str(_table(folder / "config.json").get("model_type") or "")
    files = TokenizerFiles(config, model_type, named, extra, added, _templates(folder, config))
    return files.with_forms_of_added()


def _named_and_extra(stated: Mapping[str, Any]) -> tuple[dict[str, AddedToken], tuple[AddedToken, ...]]:
    """Return the special tokens by name, the usual names first, and those without a name."""
    names = dict.fromkeys(_NAMES) | {name: value for name, value in stated.items() if name.endswith("_token")}
    more = stated.get(_EXTRA) or stated.get(_OLD_EXTRA) or {}
    if isinstance(more, dict):
        return _specials({**names, **more}), ()
    return _specials(names), tuple(_specials(dict(enumerate(more))).values())


def _specials(values: Mapping[Key, Any]) -> dict[Key, AddedToken]:
    """Return the values that are special tokens; `add_bos_token`, for one, is not."""
    found = {key: _special(value) for key, value in values.items()}
    return {key: token for key, token in found.items() if token is not None}


def _special(value: Any) -> AddedToken | None:
    """Return a special token that is written as text or as an object; None for anything else."""
    if isinstance(value, str):
        return AddedToken(value, special=True)
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return _added_token({**value, "special": True})
    return None


def _added_token(value: Mapping[str, Any]) -> AddedToken:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(value["content"], **{flag: bool(value[flag]) for flag in flags if flag in value})


def _decoder(value: Mapping[str, Any]) -> dict[int, AddedToken]:
    return {int(token): _added_token(entry) for token, entry in value.items()}


def _added_file(path: Path, special: set[str]) -> dict[int, AddedToken]:
    return {
        token: AddedToken(text, special=text in special, normalized=text not in special)
        for text, token in _table(path).items()
    }


def _templates(folder: Path, config: Mapping[str, Any]) -> str | Mapping[str, str] | None:
    """Return the chat templates; files of their own count before tokenizer_config.json."""
    paths = {path.stem: path for path in sorted((folder / _FURTHER_TEMPLATES).glob("*.jinja"))}
    if (folder / _TEMPLATE).is_file():
        paths["default"] = folder / _TEMPLATE
    found = {name: _text(path, "ChatTemplateBroken") for name, path in paths.items()}
    if found:
        return found["default"] if found.keys() == {"default"} else found
    stated = config.get("chat_template")
    if isinstance(stated, list):
        return {str(entry["name"]): str(entry["template"]) for entry in stated}
    return stated if isinstance(stated, str | dict) else None


def _table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = json.loads(_text(path, "TokenizerBroken"))
    except (ValueError, RecursionError) as error:
        raise InputError("TokenizerBroken", f"{path} is not JSON: {error}; fetch it again") from error
    if not isinstance(table, dict):
        raise InputError("TokenizerBroken", f"{path} is not a JSON object; fetch it again")
    return table


def _text(path: Path, reason: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(reason, f"{path} cannot be read: {error}; check the file") from error
