"""The scripted engine's tokens, which are words: their text, likelihoods and vectors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vicuna_server.engine import ChatPrompt, PreparedConstraint, PreparedPrompt, TokenLogprob, TopLogprob
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Conversation, Template
from vicuna_server.tools.generic_prompt import as_text
from vicuna_server.tools.history import settled

__all__ = [
    "EMBEDDING_SIZE",
    "Saying",
    "Script",
    "ScriptedFormat",
    "WordCounts",
    "WordIds",
    "certain_logprobs",
    "chat_script",
    "format_of",
    "letter_vector",
    "script_of",
    "spaced",
    "word_decoder",
]

EMBEDDING_SIZE = 8
"""Numbers in a vector."""
VOCABULARY_SIZE = 2**20


@dataclass(frozen=True)
class Script:
    """A prompt, whose length is in words.

    Attributes:
        text: The prompt's.
        last: What is to be echoed.
        stops: The template's stop strings.
        asked_for: Names of tools that the last message has, where it is a user's.
    """

    text: str
    last: str
    stops: tuple[str, ...]
    asked_for: tuple[str, ...] = ()

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
    last, said = conversation.turns[-1].content, prompt.messages[-1]
    named = tuple(tool.name for tool in prompt.tools if said.role == "user" and tool.name in said.content)
    if template is None:
        return Script("\n".join(message.content for message in conversation.messages()), last, (), named)
    rendered = template.render(conversation)
    return Script(rendered.text(), last, rendered.stop, named)


class Saying(NamedTuple):
    """What an answer says.

    Attributes:
        words: Its different tokens.
        stops: Strings that end it.
        length: So many tokens come, over and over, before the end.
    """

    words: Sequence[str]
    stops: tuple[str, ...]
    length: float


@dataclass(frozen=True, slots=True)
class ScriptedFormat:
    """What the engine answers under one constraint, in pieces that are its tokens.

    Attributes:
        text: The answer without a call; None: any text.
        calls: The answer that calls a tool, by the text in front of its arguments.
    """

    text: tuple[str, ...] | None
    calls: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def answer(self, asked_for: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the answer to a message that has these tools' names; None: any text."""
        named = (one for name in asked_for for begin, one in self.calls if name in begin)
        return next(named, self.text)


def format_of(ready: PreparedConstraint) -> ScriptedFormat:
    """Return what the scripted engine has prepared.

    Raises:
        TypeError: Another engine has prepared it.
    """
    if not isinstance(ready.content, ScriptedFormat):
        raise TypeError("the constraint was prepared by another engine")
    return ready.content


class WordCounts:
    """Counts words, which are this engine's tokens; see `trimming.Counting`."""

    def least_tokens(self, prompt: str) -> int:
        """Return how many words there are."""
        return len(prompt.split())

    def count(self, text: str) -> int:
        """Return how many words there are."""
        return len(text.split())


class WordIds:
    """Token ids of words: their places in the order in which they were first seen."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._ids: dict[str, int] = {}

    def ids(self, text: str) -> list[int]:
        """Return the id of each word of a text.

        Raises:
            RequestError: There are too many different words.
        """
        ids = []
        for word in text.split():
            if word not in self._ids:
                if len(self.words) >= VOCABULARY_SIZE:
                    raise RequestError("the scripted engine has seen too many different words; restart it", status=503)
                self._ids[word] = len(self.words)
                self.words.append(word)
            ids.append(self._ids[word])
        return ids

    def text(self, prompt: str | tuple[int, ...]) -> str:
        """Return the words of ids; a text as it is.

        Raises:
            RequestError: An id stands for no word.
        """
        if isinstance(prompt, str):
            return prompt
        for token in prompt:
            if not 0 <= token < len(self.words):
                raise RequestError(f"token id {token} is not in the vocabulary; /tokenize gives ids", param="prompt")
        return " ".join(self.words[token] for token in prompt)


def word_decoder(words: Sequence[str]) -> Callable[[Sequence[int]], str]:
    """Return what makes text of places in `words`; the place behind the last word is the end and has no text."""

    def decode(ids: Sequence[int]) -> str:
        return "".join(words[token] for token in ids if token < len(words))

    return decode


def spaced(text: str) -> list[str]:
    """Return the words of a text, each with the space behind it; one word at least."""
    return [f"{word} " for word in text.split() or ["nothing"]]


def certain_logprobs(words: Sequence[str], alternatives: int) -> list[TokenLogprob]:
    """Return the log probability of each word, 0, with itself as its only alternative where there are to be some."""
    tops = [TopLogprob(token, word.encode(), 0.0) for token, word in enumerate(words)]
    return [TokenLogprob(*top, (top,) if alternatives else ()) for top in tops]


def letter_vector(text: str) -> list[float]:
    """Return how often letters come in a text, as a vector of length 1 with `EMBEDDING_SIZE` numbers."""
    counts = [1.0] * EMBEDDING_SIZE
    for byte in text.encode(errors="replace"):
        counts[byte % EMBEDDING_SIZE] += 1
    length = math.hypot(*counts)
    return [count / length for count in counts]
