"""Conversation to prompt text and stop strings. Pure."""

from vicuna_server.prompts.conversation import Conversation, Message, Role
from vicuna_server.prompts.prompt import EndOfTurn, Prompt
from vicuna_server.prompts.templates import (
    CHAT_TEMPLATES,
    FROM_TOKENIZER,
    TEMPLATE_SUFFIX,
    Template,
    get_template,
    resolve_template_name,
)

__all__ = [
    "CHAT_TEMPLATES",
    "FROM_TOKENIZER",
    "TEMPLATE_SUFFIX",
    "Conversation",
    "EndOfTurn",
    "Message",
    "Prompt",
    "Role",
    "Template",
    "get_template",
    "resolve_template_name",
]
