"""What the small files beside a tokenizer.json say: special tokens, added tokens and chat templates."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken

from vicuna_server.errors import InputError

__all__ = ["TOKENIZER_FILE", "TokenizerFiles", "read_files"]

TOKENIZER_FILE = "tokenizer.json"
_CONFIG, _SPECIAL, _ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_TEMPLATE, _FURTHER_TEMPLATES = "chat_template.jinja", "additional_chat_templates"
_NAMES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
"""In the order in which transformers adds those that a vocabulary lacks."""
_EXTRA, _OLD_EXTRA, _DECODER = "extra_special_tokens", "additional_special_tokens", "added_tokens_decoder"


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

    def with_tokens_of(self, vocabulary: Mapping[int, AddedToken]) -> Self:
        """Return them with the added tokens of tokenizer.json, which count only where the configuration has none."""
        if _DECODER in self.config:
            return self
        return replace(self, added={**self.added, **vocabulary}).with_forms_of_added()

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
    more = stated.get(_EXTRA) or stated.get(_OLD_EXTRA) or ()
    names = {
        **{name: stated[name] for name in (*_NAMES, *stated) if name.endswith("_token") and name in stated},
        **(more if isinstance(more, dict) else {}),
    }
    named = {name: token for name, value in names.items() if (token := _special(value)) is not None}
    extra = () if isinstance(more, dict) else tuple(token for one in more if (token := _special(one)) is not None)
    special = {str(token.content) for token in (*named.values(), *extra)}
    added = _decoder(config[_DECODER]) if _DECODER in config else _added_file(folder / _ADDED, special)
    model_type = str(_table(folder / "config.json").get("model_type") or "")
    return TokenizerFiles(config, model_type, named, extra, added, _templates(folder, config)).with_forms_of_added()


def _special(value: Any) -> AddedToken | None:
    """Return a special token written as text or as an object; None for what is neither, such as `add_bos_token`."""
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
