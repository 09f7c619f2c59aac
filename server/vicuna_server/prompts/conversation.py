"""The conversation that templates render: one optional system text, then turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from vicuna_server.errors import RequestError

__all__ = ["Conversation", "Message", "Role"]

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the client sent it, content parts already joined."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in the form every template can render.

    Attributes:
        system: Text that replaces the template's own system text; None keeps the template's.
        turns: User and assistant messages, neighbours of one role joined by a newline; never empty.
    """

    system: str | None
    turns: tuple[Message, ...]

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Self:
        """Gather the system texts and join neighbouring turns of one role.

        Raises:
            RequestError: When there is neither a user nor an assistant message.
        """
        system = [message.content for message in messages if message.role == "system"]
        turns: list[Message] = []
        for message in messages:
            if message.role == "system":
                continue
            if turns and turns[-1].role == message.role:
                turns[-1] = Message(message.role, f"{turns[-1].content}\n{message.content}")
            else:
                turns.append(message)
        if not turns:
            raise RequestError("messages: at least one user message is needed", param="messages")
        return cls("\n".join(system) if system else None, tuple(turns))

    @property
    def continues(self) -> bool:
        """Whether the last turn is the assistant's: the answer then goes on from its text."""
        return self.turns[-1].role == "assistant"

    def messages(self) -> list[Message]:
        """Return the conversation as messages again, the system text first."""
        head = [Message("system", self.system)] if self.system is not None else []
        return [*head, *self.turns]
