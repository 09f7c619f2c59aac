"""Calls of Mistral's models: a list behind `[TOOL_CALLS]`, since Mistral Small 3.2 each with its name and `[ARGS]`.

Sources: the chat templates of Mistral-7B-Instruct-v0.3 and of Mistral Small; ids are nine letters and digits.
"""

import re

from vicuna_server.tools.formats.base import NAME, NO_MORE, CallFormat, json_list

__all__ = ["MISTRAL", "MISTRAL_ARGS", "is_mistral", "is_mistral_args"]

_CALLS, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_ID_LENGTH = 9

MISTRAL = json_list(
    "mistral",
    _CALLS,
    space=" ",
    behind=r'(?:,\s*"id"\s*:\s*"[a-zA-Z0-9]{0,40}"\s*)?',
    id_length=_ID_LENGTH,
)
MISTRAL_ARGS = CallFormat(
    name="mistral-args",
    triggers=(_CALLS,),
    opening=re.compile(
        rf"{re.escape(_CALLS)}\s*{NAME}(?:{re.escape(_ID)}[a-zA-Z0-9]{{1,40}})?{re.escape(_ARGS)}\s*(?=\{{)"
    ),
    closing=re.compile(f"{NO_MORE}?"),
    written=f"{_CALLS}NAME{_ARGS}",
    end="",
    trigger=_CALLS,
    between="",
    id_length=_ID_LENGTH,
    marks=(_CALLS, _ARGS, _ID),
)


def is_mistral(template: str) -> bool:
    """Whether a template that knows tools writes them as a list."""
    return _CALLS in template and _ARGS not in template


def is_mistral_args(template: str) -> bool:
    """Whether a template that knows tools writes each with its name in front."""
    return _CALLS in template and _ARGS in template
