"""Chat templates in Jinja, the tokenizer's own or from a file, as token ids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from vicuna_server.engine.rendering import Renderer
from vicuna_server.engine.typed_marks import TypedMarks
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.prompts import Conversation, Message, Role, Tool
from vicuna_server.prompts.sandbox import chosen_template
from vicuna_server.prompts.tokenizer import Tokenizer

__all__ = ["JinjaTemplate", "Rendering"]

_ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant"}
_TRIALS = ("susasusus", "usasu")
"""Roles of conversations with a system message behind each kind of other, and with and without one at the head."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a template is given beside the conversation.

    Attributes:
        tools: Functions that may be called.
        variables: Further names that the template may use.
        calls: Whether the conversation has calls, or may have.
    """

    tools: Sequence[Tool] = ()
    variables: Mapping[str, object] = field(default_factory=dict)
    calls: bool = False


_NOTHING = Rendering()


class JinjaTemplate:
    """Turns conversations into token ids; messages are always text, even where they spell special tokens.

    Rendering gives one string. In it, a special token that the template wrote and one that a user typed look the same.
    So what a user typed is replaced by a random mark before rendering, in messages as in tools. The string is then cut
    at the special tokens that remain, which are the template's. The pieces between them are encoded as text, with the
    marks put back. A conversation without such letters is encoded in one piece, as transformers does.

    Args:
        tokenizer: With the template, or several by name.
        renderer: Of that template; None: one of its own.
    """

    def __init__(self, tokenizer: Tokenizer, renderer: Renderer | None = None) -> None:
        self._tokenizer = tokenizer
        source, for_tools = (chosen_template(tokenizer.chat_template, tools=tools) for tools in (False, True))
        self.source = for_tools
        """Text of the template for chats with tools."""
        self.renderer = renderer or Renderer(source, tokenizer.special_tokens)
        other = for_tools != source
        self._tool_renderer = Renderer(for_tools, tokenizer.special_tokens) if other else self.renderer
        self._marks = TypedMarks(tokenizer, source + for_tools)
        bos = tokenizer.bos_id
        self._adds_bos = bos is not None and tokenizer.encode("", add_special_tokens=True)[:1] == [bos]

    def close(self) -> None:
        """End the processes; the next conversation starts another."""
        self.renderer.close()
        self._tool_renderer.close()

    @cached_property
    def keeps_system_in_place(self) -> bool:
        """Whether the template writes each system message in its place; it is tried once.

        Many templates refuse one that is not the first, leave it out, or gather all at the head.

        Raises:
            OverloadedError: The template's process cannot be started.
        """
        return all(map(self._keeps_order, _TRIALS))

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template writes a system message at the head; it is tried once.

        Raises:
            OverloadedError: The template's process cannot be started.
        """
        return self._keeps_order("su")

    def _keeps_order(self, roles: str) -> bool:
        words = [f"vicunatrial{index}" for index in range(len(roles))]
        messages = [Message(_ROLES[role], word) for role, word in zip(roles, words, strict=True)]
        try:
            text = self.renderer.render(messages, continues=False)
        except OverloadedError:
            raise
        except RequestError:
            return False
        places = [text.find(word) for word in words]
        return -1 not in places and places == sorted(places)

    def encode(
        self,
        conversation: Conversation,
        check: Callable[[str], object] = lambda _: None,
        given: Rendering = _NOTHING,
    ) -> list[int]:
        """Return the ids, with BOS once where the model wants one.

        Args:
            conversation: What the template renders.
            check: Called with the text before it is encoded; may raise.
            given: What the template is given beside it.

        Raises:
            RequestError: The template refuses the conversation, or exceeds a limit.
        """
        renderer = self._tool_renderer if given.calls else self.renderer
        render = partial(
            renderer.render,
            conversation.messages(),
            continues=conversation.continues,
            tools=given.tools,
            variables=given.variables,
        )
        hidden = self._marks.hidden()
        text = render(change=hidden.hide)
        check(text)
        ids = hidden.encode(text) if hidden.any else self._tokenizer.encode(text)
        # Some templates write BOS and some leave it to the tokenizer.
        bos = self._tokenizer.bos_id
        return [bos, *ids] if bos is not None and self._adds_bos and ids[:1] != [bos] else ids
