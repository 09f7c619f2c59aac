"""Calls of IBM's Granite 3: a list behind `<|tool_call|>`. Granite 4 writes them as Hermes does.

Source: the chat templates of granite-3.1-8b-instruct and its successors.
"""

from vicuna_server.tools.formats.base import json_list

__all__ = ["GRANITE", "is_granite"]

_CALL = "<|tool_call|>"

GRANITE = json_list("granite", _CALL)


def is_granite(template: str) -> bool:
    """Whether a template that knows tools writes them so."""
    return _CALL in template
