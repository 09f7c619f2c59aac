"""Calls and results of a conversation, in an order and with ids and names that templates can render.

Histories come from many clients and models: ids are missing or of another form, results do not name their tool.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message, ToolCall
from vicuna_server.tools.formats import CallFormat
from vicuna_server.tools.identifiers import fitting_id

__all__ = ["UNNAMED", "fitted", "settled"]

UNNAMED = "tool"
"""Name of a tool whose result belongs to no call and names none."""


def settled(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with an id for each call, and with id and name of its call for each result.

    A result that names no call belongs to the first call before it that has none yet.

    Raises:
        RequestError: The last message makes calls, so that their results are missing.
    """
    if messages and messages[-1].tool_calls:
        raise RequestError(
            "messages: the last one makes calls, so their results must come next; send each as a message of role tool "
            "with its tool_call_id",
            param="messages",
        )
    done: list[Message] = []
    names: dict[str, str] = {}
    waiting: list[ToolCall] = []
    for index, message in enumerate(messages):
        if message.tool_calls:
            calls = tuple(
                replace(call, ident=call.ident or _made_id(index, place))
                for place, call in enumerate(message.tool_calls)
            )
            waiting, message = list(calls), replace(message, tool_calls=calls)
            names |= {call.ident: call.name for call in calls}
        elif message.role == "tool":
            message = _answered(message, names, waiting, index)
        done.append(message)
    return done


def _answered(message: Message, names: dict[str, str], waiting: list[ToolCall], index: int) -> Message:
    ident = message.tool_call_id
    if not ident:
        own = [call for call in waiting if message.name in (None, call.name)]
        ident = own[0].ident if own else _made_id(index, 0)
    waiting[:] = [call for call in waiting if call.ident != ident]
    return replace(message, tool_call_id=ident, name=names.get(ident) or message.name or UNNAMED)


def _made_id(index: int, place: int) -> str:
    return "call_" + hashlib.sha256(f"{index} {place}".encode()).hexdigest()[:24]


def fitted(messages: Sequence[Message], form: CallFormat) -> list[Message]:
    """Return settled messages as the template of a format takes them: ids of its form, perhaps one call at a time."""
    whole = [_with_fitting_ids(message, form) for message in messages]
    return list(_one_by_one(whole)) if form.one_per_message else whole


def _with_fitting_ids(message: Message, form: CallFormat) -> Message:
    calls = tuple(replace(call, ident=fitting_id(call.ident, form)) for call in message.tool_calls)
    ident = message.tool_call_id
    return replace(message, tool_calls=calls, tool_call_id=None if ident is None else fitting_id(ident, form))


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    """Give each call a message of its own, with its results behind it."""
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        if len(message.tool_calls) < 2:
            yield message
            continue
        results = list(takewhile(lambda one: one.role == "tool", messages[place:]))
        place += len(results)
        yield from _apart(message, results)


def _apart(message: Message, results: Sequence[Message]) -> Iterator[Message]:
    """Yield each call of a message with its results, and then the results of none of them."""
    idents = [call.ident for call in message.tool_calls]
    for call in message.tool_calls:
        yield replace(message, tool_calls=(call,))
        yield from (one for one in results if one.tool_call_id == call.ident)
        message = replace(message, content="", reasoning=None)
    yield from (one for one in results if one.tool_call_id not in idents)
