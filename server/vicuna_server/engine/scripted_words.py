"""The scripted engine's tokens, which are words: their text, likelihoods and vectors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vicuna_server.engine.base import ChatPrompt, PreparedPrompt, TokenLogprob, TopLogprob
from vicuna_server.prompts import Conversation, Template
from vicuna_server.tools.generic_prompt import as_text
from vicuna_server.tools.history import settled

__all__ = [
    "EMBEDDING_SIZE",
    "Script",
    "WordCounts",
    "certain_logprobs",
    "chat_script",
    "letter_vector",
    "script_of",
    "word_decoder",
]

EMBEDDING_SIZE = 8
"""Numbers in a vector."""


@dataclass(frozen=True)
class Script:
    """A prompt's text, what is to be echoed, and the template's stop strings; its length is in words."""

    text: str
    last: str
    stops: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text.split())


def script_of(ready: PreparedPrompt) -> Script:
    """Return what the scripted engine has prepared.

    Raises:
        TypeError: Another engine has prepared it.
    """
    if not isinstance(ready.content, Script):
        raise TypeError("the prompt was prepared by another engine")
    return ready.content


def chat_script(prompt: ChatPrompt, template: Template | None) -> Script:
    """Return a conversation's text, with its tools as text too; without a template it is that of its messages."""
    system = None if template is None else template.system
    conversation = Conversation.of(as_text(settled(prompt.messages), prompt.tools, system))
    last = conversation.turns[-1].content
    if template is None:
        return Script("\n".join(message.content for message in conversation.messages()), last, ())
    rendered = template.render(conversation)
    return Script(rendered.text(), last, rendered.stop)


class WordCounts:
    """Counts words, which are this engine's tokens; see `trimming.Counting`."""

    def least_tokens(self, prompt: str) -> int:
        """Return how many words there are."""
        return len(prompt.split())

    def count(self, text: str) -> int:
        """Return how many words there are."""
        return len(text.split())


def word_decoder(words: Sequence[str]) -> Callable[[Sequence[int]], str]:
    """Return what makes text of places in `words`; the place behind the last word is the end and has no text."""

    def decode(ids: Sequence[int]) -> str:
        return "".join(f"{words[token]} " for token in ids if token < len(words))

    return decode


def certain_logprobs(words: Sequence[str], alternatives: int) -> list[TokenLogprob]:
    """Return the log probability of each word, 0, with itself as its only alternative where there are to be some."""
    tops = [TopLogprob(token, f"{word} ".encode(), 0.0) for token, word in enumerate(words)]
    return [TokenLogprob(*top, (top,) if alternatives else ()) for top in tops]


def letter_vector(text: str) -> list[float]:
    """Return how often letters come in a text, as a vector of length 1 with `EMBEDDING_SIZE` numbers."""
    counts = [1.0] * EMBEDDING_SIZE
    for byte in text.encode(errors="replace"):
        counts[byte % EMBEDDING_SIZE] += 1
    length = math.hypot(*counts)
    return [count / length for count in counts]
