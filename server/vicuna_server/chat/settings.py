"""What `!!set` changes: how answers are made. By which model is the backend's."""

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
"""Leaves a setting to the model's side."""
MODEL = "model"


def seed(text: str) -> int:
    """Return a whole number, negative or not, that 64 bits hold."""
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
        options: as they are.
        name: `temperature`, `top-p`, `seed` or `max-new-tokens`.
        value: as on the command line, or `default`.

    Raises:
        UsageError: there is no such setting, or it does not take this value.
    """
    if name not in _KINDS:
        if name == MODEL:
            raise UsageError(f"!!set {name}: say which one; or {DEFAULT}, the server's first")
        raise UsageError(f"!!set {name}: there is no such setting; there are {', '.join((MODEL, *_KINDS))}")
    field, kind = _KINDS[name]
    try:
        return replace(options, **{field: None if value == DEFAULT else kind(value)})
    except ArgumentTypeError as error:
        raise UsageError(f"!!set {name}: {error}; or say {DEFAULT}") from error


def describe(options: Options) -> str:
    """Return the settings, one a line."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return "\n".join(f"{name} {DEFAULT if values[key] is None else values[key]}" for name, (key, _) in _KINDS.items())
