"""What a chat talks to: a model somewhere that streams the next message."""

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypedDict

__all__ = ["Backend", "ChatMessage", "Options", "Report"]


class ChatMessage(TypedDict):
    """One message; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """How answers are made; None leaves it to the model's side."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def stated(self) -> dict[str, Any]:
        """Return what is not left to the model's side, by the names that OpenAI and the engine have for it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of an answer when it has ended; None where the other side does not tell.

    Attributes:
        left_out: Oldest messages that the model was not shown, since all together are too long for its context.
    """

    finish_reason: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    tokens: int | None = None
    left_out: int = 0


class Backend(Protocol):
    """A model to chat with.

    Attributes:
        report: Of the last answer.
    """

    report: Report

    @property
    def title(self) -> str:
        """What the user is told of it."""

    def use(self, model: str | None) -> None:
        """Answer by another model from now on; None: the other side's first.

        Raises:
            VicunaError: There is no such model, or no choice.
        """

    def stream(self, messages: Sequence[ChatMessage], options: Options) -> Generator[str, None, None]:
        """Yield the pieces of the next message; closing the iterator stops the work.

        Raises:
            VicunaError: The request is refused, or the answer breaks off.
        """

    def close(self) -> None:
        """Let go of it."""
