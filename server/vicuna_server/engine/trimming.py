"""Leaves out the oldest turns of a conversation that is too long, where the request allows it.

To encode what remains after each turn would take seconds where a conversation has megabytes. So tokens are counted: by
letters first, then each message once, from the newest back until the context is full. What a template adds to each
message shows when the whole is encoded, once or twice.
"""

import json
from collections.abc import Callable, Sequence, Sized
from dataclasses import replace
from itertools import accumulate
from typing import Protocol, TypeVar

from vicuna_server.engine import ChatPrompt
from vicuna_server.errors import ContextLengthError
from vicuna_server.prompts import Message
from vicuna_server.prompts.template_data import tool_data

__all__ = ["Counting", "most_tokens", "trim"]

ANSWER_SHARE = 4
"""Without max_tokens, one part in so many of the context is kept for the answer."""

_ATTEMPTS = 4
"""The second fits where the template adds the same to each message. After the last attempt only the last turn stays."""

Encoded = TypeVar("Encoded", bound=Sized)


class Counting(Protocol):
    """How many tokens texts have that stand alone."""

    def least_tokens(self, prompt: str) -> int:
        """Return how many a text has at least; at once."""

    def count(self, text: str) -> int:
        """Return how many a text has."""


def most_tokens(context_length: int, max_tokens: int | None) -> int:
    """Return how long a prompt may be, so that there is room for its answer."""
    return context_length - (max_tokens or context_length // ANSWER_SHARE)


def trim(
    prompt: ChatPrompt, most: int, counting: Counting, encode: Callable[[ChatPrompt], Encoded]
) -> tuple[Encoded, int]:
    """Encode a conversation without its oldest turns, so that it fits; return how many messages were left out.

    System messages stay, and so does the last turn, which may be too long alone. What is left begins with a user's
    message.

    Args:
        prompt: The conversation.
        most: Tokens that there is room for.
        counting: How long messages are.
        encode: Gives the prompt's tokens, or says without encoding it that they are too many.

    Raises:
        ContextLengthError: By `encode`, of the last turn.
    """
    turns = _Turns(prompt)
    first = turns.within(most, counting)
    for attempt in range(_ATTEMPTS):
        if first >= turns.last:
            break
        try:
            encoded = encode(turns.after(first))
        except ContextLengthError as error:
            tokens = error.tokens
        else:
            tokens = len(encoded)
            if tokens <= most:
                return encoded, turns.left_out(first)
        # More with each attempt: a template may add more to some turns than to others.
        first = turns.lighter(first, tokens, (tokens - most) << attempt, counting)
    return encode(turns.after(turns.last)), turns.left_out(turns.last)


class _Turns:
    """A conversation as turns, each begun by a user's message; system messages belong to none.

    Calls and their results are in one turn.
    """

    def __init__(self, prompt: ChatPrompt) -> None:
        self._prompt = prompt
        self._messages = prompt.messages
        self._starts = _turn_starts(prompt.messages)
        self._counts: dict[int | None, int] = {}
        self.last = max(0, len(self._starts) - 1)

    def after(self, first: int) -> ChatPrompt:
        """Return what is left without the turns before `first`."""
        if not self._starts:
            return self._prompt
        start = self._starts[first]
        left = tuple(one for index, one in enumerate(self._messages) if index >= start or one.role == "system")
        return replace(self._prompt, messages=left)

    def left_out(self, first: int) -> int:
        """Return how many messages are not left without the turns before `first`."""
        return len(self._messages) - len(self.after(first).messages)

    def within(self, most: int, counting: Counting) -> int:
        """Return the first turn of those, counted from the newest, whose texts alone have room."""
        left = (
            most - self._tools(most, counting) - sum(self._tokens(one, most, counting) for one in self._indices(None))
        )
        for turn in range(self.last, -1, -1):
            for index in reversed(self._indices(turn)):
                left -= self._tokens(index, most, counting)
                if left < 0:
                    return min(turn + 1, self.last)
        return 0

    def lighter(self, first: int, tokens: int, excess: int, counting: Counting) -> int:
        """Return the first turn of what is left when so many tokens go, of `tokens` that there are from `first` on."""
        kept = [index for turn in (None, *range(first, self.last + 1)) for index in self._indices(turn)]
        texts = self._tools(tokens, counting) + sum(self._tokens(index, tokens, counting) for index in kept)
        added = max(0, tokens - texts) / max(1, len(kept))
        sizes = [
            sum(self._tokens(index, tokens, counting) + added for index in self._indices(turn))
            for turn in range(first, self.last)
        ]
        gone = next((count for count, size in enumerate(accumulate(sizes), 1) if size >= excess), len(sizes))
        return first + max(1, gone)

    def _indices(self, turn: int | None) -> Sequence[int]:
        """Return the messages of a turn; None: the system's."""
        if turn is None:
            return [index for index, one in enumerate(self._messages) if one.role == "system"]
        if not self._starts:
            return []
        end = self._starts[turn + 1] if turn < self.last else len(self._messages)
        return [index for index in range(self._starts[turn], end) if self._messages[index].role != "system"]

    def _tokens(self, index: int, most: int, counting: Counting) -> int:
        """Return a message's tokens."""
        message = self._messages[index]
        return self._counted(index, [message.content, *(call.arguments for call in message.tool_calls)], most, counting)

    def _tools(self, most: int, counting: Counting) -> int:
        """Return the tokens of all tools."""
        texts = [json.dumps(tool_data(tool), ensure_ascii=False) for tool in self._prompt.tools]
        return self._counted(None, texts, most, counting) if texts else 0

    def _counted(self, key: int | None, texts: Sequence[str], most: int, counting: Counting) -> int:
        """Return the tokens of texts, counted once; of those longer than all may be, the least that they have."""
        if key not in self._counts:
            text = "\n".join(texts)
            least = counting.least_tokens(text)
            self._counts[key] = least if least > most else counting.count(text)
        return self._counts[key]


def _turn_starts(messages: Sequence[Message]) -> list[int]:
    """Return the indices of the messages that begin a turn: the first, and a user's after one that is not a user's."""
    turns = [index for index, message in enumerate(messages) if message.role != "system"]
    return [
        index
        for before, index in zip([None, *turns], turns, strict=False)
        if before is None or (messages[index].role == "user" and messages[before].role != "user")
    ]
