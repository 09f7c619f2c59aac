"""What the fields of a tokenizer's configuration must be, so that transformers can load what a merge writes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vicuna_server.errors import InputError

__all__ = ["check_fields", "plain_tokens", "typed_tokens"]

_TOKENS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_ADDITIONAL, _EXTRA, _OWN = "additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"
_TYPE = "__type"  # fields of transformers' AddedToken beside its text
_MOST_LETTERS = 60


def _is_token(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))


def _may_be_token(value: Any) -> bool:
    """Whether a value is not an object, or is a token's: other names end in _token too, as `add_bos_token`."""
    return not isinstance(value, dict) or _is_token(value)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_token, value))


def _are_named(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_token, value.values()))


def _are_numbered(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key.isdecimal() and isinstance(token, dict) and _is_token(token) for key, token in value.items()
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_side(value: Any) -> bool:
    return value in ("left", "right")


_Form = tuple[str, Callable[[Any], bool]]
_TOKEN: _Form = ("a text, or an object with the text in content,", lambda value: value is None or _is_token(value))
_NAMED_SO: _Form = (_TOKEN[0], _may_be_token)
_FREE: _Form = ("", lambda _: True)
_FORMS: dict[str, _Form] = {
    **dict.fromkeys(_TOKENS, _TOKEN),
    _ADDITIONAL: ("a list of tokens", lambda value: value is None or _are_tokens(value)),
    _EXTRA: ("a list of tokens", lambda value: value is None or _are_tokens(value) or _are_named(value)),
    _OWN: ("tokens by name", lambda value: value is None or _are_named(value)),
    "added_tokens_decoder": ("a table of tokens and their ids", _are_numbered),
    "tokenizer_class": ("a name", lambda value: value is None or isinstance(value, str)),
    "model_max_length": ("a number", lambda value: value is None or isinstance(value, int | float)),
    "padding_side": ("left or right", _is_side),
    "truncation_side": ("left or right", _is_side),
    "split_special_tokens": ("true or false", lambda value: isinstance(value, bool)),
    "model_input_names": ("a list of names", _are_names),
}


def check_fields(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse a field that no program can read.

    Args:
        path: tokenizer_config.json or special_tokens_map.json.
        table: its content.

    Raises:
        InputError: `TokenizerBroken`, naming the field, what it is and what belongs there.
    """
    for name, value in table.items():
        what, fits = _FORMS.get(name, _NAMED_SO if name.endswith("_token") else _FREE)
        if not fits(value):
            shown = repr(value)
            shown = shown if len(shown) <= _MOST_LETTERS else shown[:_MOST_LETTERS] + "…"
            raise InputError("TokenizerBroken", f"{path}: {name} is {shown}, where {what} belongs; correct it")


def typed_tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return tokenizer_config.json with its tokens that are objects marked so, as transformers wants them there."""
    result = dict(config)
    for name in (*_TOKENS, _ADDITIONAL, _EXTRA, _OWN):
        if name in result:
            result[name] = _typed(result[name])
    return result


def plain_tokens(special: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return special_tokens_map.json with additional tokens as texts, where transformers reads the file at all."""
    several = special.get(_ADDITIONAL)
    if "added_tokens_decoder" in config or not isinstance(several, list):
        return dict(special)
    return {**special, _ADDITIONAL: [one["content"] if isinstance(one, dict) else one for one in several]}


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return [_typed(one) for one in value]
    if isinstance(value, dict) and _is_token(value):
        return value if _TYPE in value else {_TYPE: "AddedToken", **value}
    return {name: _typed(one) for name, one in value.items()} if isinstance(value, dict) else value
