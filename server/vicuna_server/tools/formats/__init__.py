"""The formats in which models write calls of tools, and which of them a chat template uses."""

import re
from collections.abc import Callable

from vicuna_server.tools.formats.base import CallFormat
from vicuna_server.tools.formats.generic import GENERIC
from vicuna_server.tools.formats.granite import GRANITE, is_granite
from vicuna_server.tools.formats.hermes import HERMES, is_hermes
from vicuna_server.tools.formats.llama import LLAMA, is_llama
from vicuna_server.tools.formats.mistral import MISTRAL, MISTRAL_ARGS, is_mistral, is_mistral_args

__all__ = ["FORMATS", "GENERIC", "GRANITE", "HERMES", "LLAMA", "MISTRAL", "MISTRAL_ARGS", "CallFormat", "native_format"]

FORMATS: tuple[tuple[CallFormat, Callable[[str], bool]], ...] = (
    (MISTRAL_ARGS, is_mistral_args),
    (MISTRAL, is_mistral),
    (GRANITE, is_granite),
    (HERMES, is_hermes),
    (LLAMA, is_llama),
)
"""Each with what tells it from a template that knows tools; the first that fits counts."""

_CODE = re.compile(r"\{[%{](.*?)[%}]\}", re.DOTALL)
_STRING = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_TOOLS = re.compile(r"(?<![\w.])tools\b")


def native_format(template: str) -> CallFormat | None:
    """Return the format that a chat template's own text tells; None: it knows no tools, or writes them otherwise."""
    if not any(_TOOLS.search(_STRING.sub("", code[1])) for code in _CODE.finditer(template)):
        return None
    return next((form for form, is_it in FORMATS if is_it(template)), None)
