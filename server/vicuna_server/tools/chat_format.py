"""How a model writes what is more than text: calls of tools, and what it thinks before it answers."""

from collections.abc import Collection
from dataclasses import dataclass

from vicuna_server.tools.formats import GENERIC, CallFormat, native_format
from vicuna_server.tools.parsing import THINK, THINK_END

__all__ = ["PLAIN", "ChatFormat", "chat_format"]


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """What a model's chat template and vocabulary tell.

    Attributes:
        calls: How calls are written.
        native: Whether the template renders tools, calls and results itself; otherwise they are described as text.
        thinks: Whether an answer may begin with reasoning.
    """

    calls: CallFormat = GENERIC
    native: bool = False
    thinks: bool = False


PLAIN = ChatFormat()
"""Of a model without a template that knows more, as Vicuna and Alpaca."""


def chat_format(template: str | None, tokens: Collection[str]) -> ChatFormat:
    """Return a model's format.

    Args:
        template: Text of its chat template in Jinja; None: a built-in one, which knows no tools.
        tokens: The tokens that are found in a text before anything else.
    """
    native = None if template is None else native_format(template)
    marked = template is not None and (THINK in template or THINK_END in template)
    thinks = marked or (THINK in tokens and THINK_END in tokens)
    return ChatFormat(native or GENERIC, native is not None, thinks)
