"""The Protocol of a model to chat with, in this process or behind an API."""

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypedDict

from vicuna_server.tools.output import OutputPart

__all__ = ["Backend", "ChatMessage", "Options", "Report"]


class ChatMessage(TypedDict):
    """One message; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """Sampling options of the answers; None: the default of the server or the model."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def stated(self) -> dict[str, Any]:
        """Return the options that are set, by their names in OpenAI's API and in the engine."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Report:
    """How an answer ended, and its token counts; None where the server sends none.

    Attributes:
        finish_reason: As in OpenAI's API; empty: the answer was stopped.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: Those of them that came from the prefix cache.
        tokens: Tokens of the answer.
        left_out: Number of oldest messages that were left out, since all together do not fit into the context.
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
        """The model's name, as the user sees it."""

    def use(self, model: str | None) -> None:
        """Use another model from now on; None: the first that the server lists.

        Raises:
            VicunaError: The model does not exist, or cannot be changed.
        """

    def stream(self, messages: Sequence[ChatMessage], options: Options) -> Generator[OutputPart, None, None]:
        """Yield the parts of the next message; an assistant's message that comes last is continued.

        Closing the iterator stops the generation.

        Raises:
            VicunaError: The request is refused, or the answer breaks off.
        """

    def close(self) -> None:
        """Release the model or the connections."""
