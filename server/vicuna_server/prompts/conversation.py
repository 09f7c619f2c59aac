"""The conversation that templates render: a system text at its head, if there is one, then turns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from vicuna_server.errors import RequestError
from vicuna_server.prompts.tools import ToolCall

__all__ = ["Conversation", "Message", "Role"]

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the client sent it, content parts already joined.

    Attributes:
        role: Who speaks; "tool" tells the result of a call.
        content: The text.
        tool_calls: Calls that an assistant's message makes.
        tool_call_id: Id of the call whose result a tool's message tells.
        name: Name of the tool whose result it tells, where known.
        reasoning: What an assistant's message thought before its content.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in the form a template can render.

    Attributes:
        system: Text that replaces the template's own system text; None keeps the template's.
        turns: User, assistant and tool messages, and system messages where they may stay among them; neighbours of one
            role joined by a newline, but for results of tools and what follows calls; never empty, and the first is not
            a system message.
        continues: Whether the assistant's message came last: the answer then goes on from its text.
    """

    system: str | None
    turns: tuple[Message, ...]
    continues: bool

    @classmethod
    def of(cls, messages: Sequence[Message], *, in_place: bool = False) -> Self:
        """Join neighbouring messages of one role, and the system messages that belong to the head.

        Args:
            messages: As the client sent them.
            in_place: Whether a system message behind the first turn stays where it is; all go to the head otherwise.

        Raises:
            RequestError: When there is neither a user nor an assistant message.
        """
        system: list[str] = []
        turns: list[Message] = []
        for message in messages:
            if message.role == "system" and not (in_place and turns):
                system.append(message.content)
            elif turns and _belong_together(turns[-1], message):
                turns[-1] = _joined(turns[-1], message)
            else:
                turns.append(message)
        if not turns:
            raise RequestError(
                "messages: they have neither a user's nor an assistant's message; send at least one user message",
                param="messages",
            )
        return cls("\n".join(system) if system else None, tuple(turns), messages[-1].role == "assistant")

    def messages(self) -> list[Message]:
        """Return the conversation as messages again, the system text first."""
        head = [Message("system", self.system)] if self.system is not None else []
        return [*head, *self.turns]


def _belong_together(first: Message, then: Message) -> bool:
    return first.role == then.role != "tool" and not first.tool_calls


def _joined(first: Message, then: Message) -> Message:
    """Return two messages of one role as one, the second perhaps with calls and without text."""
    texts = [first.content] if then.tool_calls and not then.content else [first.content, then.content]
    thoughts = [one.reasoning for one in (first, then) if one.reasoning]
    return replace(
        first, content="\n".join(texts), tool_calls=then.tool_calls, reasoning="\n".join(thoughts) if thoughts else None
    )
