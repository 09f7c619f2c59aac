"""Reading server-sent events as OpenAI's API writes them: a JSON object each, and `[DONE]` at the end. Pure.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["DONE", "read_events"]

DONE: Final = "[DONE]"
_SHOWN = 80


def read_events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the events in front of `[DONE]`; comments and other fields are left out.

    Args:
        lines: of the response, with or without their ends.

    Raises:
        ValueError: an event is not a JSON object; its beginning is in the message.
        EOFError: the lines end before `[DONE]`.
    """
    data: list[str] = []
    for line in lines:
        line = line.rstrip("\r\n")
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:  # an empty line ends an event
            text, data = "\n".join(data), []
            if text.strip() == DONE:
                return
            yield _parsed(text)
    if "\n".join(data).strip() == DONE:
        return
    raise EOFError("the events end before the last one")


def _parsed(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise ValueError(f"not a JSON object: {text[:_SHOWN]}")
    return event
