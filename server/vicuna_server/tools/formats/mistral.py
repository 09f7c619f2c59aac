"""Calls of Mistral's models: a list behind `[TOOL_CALLS]`, since Mistral Small 3.2 each with its name and `[ARGS]`.

Sources: the chat templates of Mistral-7B-Instruct-v0.3 and of Mistral Small; ids are nine letters and digits.
"""

import re

from vicuna_server.tools.formats.base import NAME, NO_MORE, CallFormat, json_item

__all__ = ["MISTRAL", "MISTRAL_ARGS", "is_mistral", "is_mistral_args"]

_CALLS, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_ID_LENGTH = 9

MISTRAL = CallFormat(
    name="mistral",
    triggers=(_CALLS,),
    opening=re.compile(rf"{re.escape(_CALLS)}\s*\[\s*{json_item('arguments')}"),
    next_opening=re.compile(rf"\s*{json_item('arguments')}"),
    closing=re.compile(r'\s*(?:,\s*"id"\s*:\s*"[a-zA-Z0-9]{0,40}"\s*)?\}\s*(?:(?P<more>,)|\])'),
    written=f'{_CALLS} [{{"name": "NAME", "arguments": ',
    end="}]",
    trigger=_CALLS,
    several=False,
    id_length=_ID_LENGTH,
    marks=(_CALLS,),
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
