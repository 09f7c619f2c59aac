"""Conversations to prompts, and prompts to token ids; without torch and transformers.

The names here need neither tokenizers nor jinja2; `tokenizer` and `sandbox`, which do, are imported by their own names.
"""

from vicuna_server.prompts.conversation import Conversation, Message, Role
from vicuna_server.prompts.prompt import EndOfTurn, Prompt
from vicuna_server.prompts.sources import KEPT_TEMPLATE, jinja_source, written_format
from vicuna_server.prompts.templates import Template, get_template
from vicuna_server.prompts.tools import Tool, ToolCall

__all__ = [
    "KEPT_TEMPLATE",
    "Conversation",
    "EndOfTurn",
    "Message",
    "Prompt",
    "Role",
    "Template",
    "Tool",
    "ToolCall",
    "get_template",
    "jinja_source",
    "written_format",
]
