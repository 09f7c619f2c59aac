"""Calls of Hermes, Qwen 2.5, Qwen 3, Granite 4 and others: one JSON object between two tags.

Sources: the chat templates of NousResearch's Hermes 2 Pro and of Qwen 2.5.
"""

import re

from vicuna_server.tools.formats.base import NO_MORE, CallFormat, json_item

__all__ = ["HERMES", "is_hermes"]

BEGIN, END = "<tool_call>", "</tool_call>"

HERMES = CallFormat(
    name="hermes",
    triggers=(BEGIN,),
    opening=re.compile(rf"{BEGIN}\s*{json_item('arguments')}"),
    closing=re.compile(rf"\s*\}}\s*{END}{NO_MORE}?"),
    written=f'{BEGIN}\n{{"name": "NAME", "arguments": ',
    end=f"}}\n{END}",
    trigger=BEGIN,
    marks=(BEGIN, END),
)


def is_hermes(template: str) -> bool:
    """Whether a template that knows tools writes them so; Qwen3-Coder and GLM put XML between the same tags."""
    return BEGIN in template and "<function=" not in template and "<arg_key>" not in template
