"""Leaves out the oldest turns of a conversation that is too long, where that is asked for."""

from collections.abc import Sequence

from vicuna_server.engine.base import ChatPrompt, Engine
from vicuna_server.prompts import Message

__all__ = ["trim"]

ANSWER_SHARE = 4
"""Without max_tokens, one part in so many of the context is kept for the answer."""


async def trim(engine: Engine, prompt: ChatPrompt, max_tokens: int | None) -> tuple[ChatPrompt, int]:
    """Return the conversation without as many of its oldest turns as it takes to fit, and how many messages those are.

    System messages stay, and so does the last turn: if that alone is too long the engine will refuse it. What is left
    begins with a user's message.
    """
    most = engine.context_length - (max_tokens or engine.context_length // ANSWER_SHARE)
    messages = prompt.messages
    starts = _turn_starts(messages)

    def without(dropped: int) -> ChatPrompt:
        first = starts[dropped]
        return ChatPrompt(tuple(one for index, one in enumerate(messages) if index >= first or one.role == "system"))

    # The smallest number of turns to leave out, by halving: each look encodes what would remain.
    low, high = 0, max(0, len(starts) - 1)
    while low < high:
        middle = (low + high) // 2
        if len(await engine.tokenize(without(middle))) <= most:
            high = middle
        else:
            low = middle + 1
    kept = without(low) if starts else prompt
    return kept, len(messages) - len(kept.messages)


def _turn_starts(messages: Sequence[Message]) -> list[int]:
    """Return the indices of the messages that begin a turn: the first, and a user's after one that is not a user's."""
    turns = [index for index, message in enumerate(messages) if message.role != "system"]
    return [
        index
        for before, index in zip([None, *turns], turns, strict=False)
        if before is None or (messages[index].role == "user" and messages[before].role != "user")
    ]
