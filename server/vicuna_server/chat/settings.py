"""The sampling options that `!!set` changes; the backend changes the model."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

from vicuna_contract.arguments import bounded, positive
from vicuna_server.chat.backend import Options
from vicuna_server.errors import UsageError

__all__ = ["DEFAULT", "MODEL", "change", "describe", "seed"]

DEFAULT = "default"
"""The value that leaves a setting to the server or the model."""
MODEL = "model"


def seed(text: str) -> int:
    """Return a whole number of 64 bits, which may be negative."""
    try:
        number = int(text)
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise ArgumentTypeError(f"{text!r} is not a whole number of 64 bits")
    return number


_KINDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "temperature": ("temperature", partial(bounded, most=2.0)),
    "top-p": ("top_p", partial(bounded, most=1.0)),
    "seed": ("seed", seed),
    "max-new-tokens": ("max_tokens", positive),
}


def change(options: Options, name: str, value: str) -> Options:
    """Return the options with one changed.

    Args:
        options: The current options.
        name: `temperature`, `top-p`, `seed` or `max-new-tokens`.
        value: As on the command line, or `default`.

    Raises:
        UsageError: The setting does not exist, or the value is not valid for it.
    """
    if name not in _KINDS:
        if name == MODEL:
            raise UsageError(
                f"!!set {name}: the value is missing; write a model's name, or {DEFAULT} for the server's first"
            )
        raise UsageError(f"!!set {name}: not a setting; the settings are {', '.join((MODEL, *_KINDS))}")
    field, kind = _KINDS[name]
    try:
        return replace(options, **{field: None if value == DEFAULT else kind(value)})
    except ArgumentTypeError as error:
        raise UsageError(f"!!set {name}: {error}; or write {DEFAULT}") from error


def describe(options: Options) -> str:
    """Return the settings, one per line."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return "\n".join(f"{name} {DEFAULT if values[key] is None else values[key]}" for name, (key, _) in _KINDS.items())
