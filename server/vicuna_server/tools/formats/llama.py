"""Calls of LLaMA 3.1, 3.2 and 3.3: the answer is one JSON object, with or without `<|python_tag|>` in front.

Source: Meta's documentation of LLaMA 3.1's prompt format and its chat template, which takes one call per message.
"""

import re

from vicuna_server.tools.formats.base import NO_MORE, CallFormat, json_item

__all__ = ["LLAMA", "is_llama"]

_TAG = "<|python_tag|>"

LLAMA = CallFormat(
    name="llama",
    triggers=(_TAG, "{"),
    opening=re.compile(rf"(?:{re.escape(_TAG)}\s*)?{json_item('parameters')}"),
    closing=re.compile(rf"\s*\}}{NO_MORE}?"),
    written='{"name": "NAME", "parameters": ',
    end="}",
    trigger='{"name": "',
    several=False,
    first_only=True,
    one_per_message=True,
    marks=(_TAG,),
)


def is_llama(template: str) -> bool:
    """Whether a template that knows tools writes them so."""
    return "<|start_header_id|>" in template and '"parameters": ' in template and "tool_calls" in template
