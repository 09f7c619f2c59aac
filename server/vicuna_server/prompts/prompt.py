"""A rendered prompt: text, and the places where a template puts the tokenizer's end-of-sequence token."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["EndOfTurn", "Prompt"]


class EndOfTurn(Enum):
    """Stands for the end-of-sequence token, which text never becomes."""

    EOS = "eos"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a template makes of a conversation.

    Attributes:
        parts: Text and end-of-turn marks in order. The beginning-of-sequence token is not among them: whoever
            encodes the prompt puts it in front, once.
        stop: Strings that end the answer in addition to the end-of-sequence token.
    """

    parts: tuple[str | EndOfTurn, ...]
    stop: tuple[str, ...] = ()

    def text(self, eos: str = "</s>") -> str:
        """Return the prompt as one string, with `eos` for every end-of-turn mark."""
        return "".join(part if isinstance(part, str) else eos for part in self.parts)
