"""Calls of IBM's Granite 3: a list behind `<|tool_call|>`. Granite 4 writes them as Hermes does.

Source: the chat templates of granite-3.1-8b-instruct and its successors.
"""

import re

from vicuna_server.tools.formats.base import CallFormat, json_item

__all__ = ["GRANITE", "is_granite"]

_CALL = "<|tool_call|>"

GRANITE = CallFormat(
    name="granite",
    triggers=(_CALL,),
    opening=re.compile(rf"{re.escape(_CALL)}\s*\[\s*{json_item('arguments')}"),
    next_opening=re.compile(rf"\s*{json_item('arguments')}"),
    closing=re.compile(r"\s*\}\s*(?:(?P<more>,)|\])"),
    written=f'{_CALL}[{{"name": "NAME", "arguments": ',
    end="}]",
    trigger=_CALL,
    several=False,
    marks=(_CALL,),
)


def is_granite(template: str) -> bool:
    """Whether a template that knows tools writes them so."""
    return _CALL in template
