"""Parts of an answer as items of a response, and the events of a stream that tell how these come to be. Pure.

One item is open at a time. The items at the end are what a client puts together from the events.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from vicuna_server.protocol.chat_completion import ChatLogprob
from vicuna_server.protocol.responses.output_items import (
    ItemStatus,
    OutputItem,
    OutputText,
    ReasoningContent,
    function_call,
    output_message,
    output_text,
    reasoning_item,
)
from vicuna_server.tools.output import CallArguments, CallBegin, OutputPart, ReasoningText, Text

__all__ = ["Assembly", "Event"]

Event = dict[str, Any]
"""An event without its number: `type` and what belongs to it."""


class Assembly:
    """The output of one response.

    Args:
        new_id: makes the id of an item from its prefix: msg, rs, fc.

    Attributes:
        output: the items that are complete.
    """

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self.output: list[OutputItem] = []
        self._new_id = new_id
        self._open: _Message | _Reasoning | _Call | None = None
        self._logprobs: list[ChatLogprob] = []

    @property
    def reasoning(self) -> bool:
        """Whether the item that is open is reasoning."""
        return isinstance(self._open, _Reasoning)

    def push(self, parts: Iterable[OutputPart], logprobs: Sequence[ChatLogprob] = ()) -> list[Event]:
        """Take the next parts, and return their events.

        Args:
            parts: What the model has written since.
            logprobs: Of the tokens since. They are told with the next text; those of reasoning and calls are not told.
        """
        self._logprobs += logprobs
        return [event for part in parts for event in self._push(part)]

    def end(self, *, cut: bool) -> list[Event]:
        """Return the events at the end of the answer; `cut`: it ended before the model was done."""
        events = []
        if self._open is None and not self.output:
            events += self._begin(_Message, "msg")  # an empty answer is an empty message
        if self._logprobs and isinstance(self._open, _Message):
            events += self._open.more("", self._taken())
        return [*events, *self._close("incomplete" if cut else "completed")]

    def _push(self, part: OutputPart) -> list[Event]:
        if isinstance(part, Text):
            return self._text(part.text) if part.text else []
        if isinstance(part, ReasoningText):
            return self._reason(part.text) if part.text else []
        self._logprobs = []
        if isinstance(part, CallBegin):
            return self._begin(partial(_Call, begin=part), "fc")
        assert isinstance(self._open, _Call)  # noqa: S101  # a parser ends a call before it begins anything else
        if isinstance(part, CallArguments):
            return self._open.more(part.text) if part.text else []
        return self._close("completed")

    def _text(self, text: str) -> list[Event]:
        begun = [] if isinstance(self._open, _Message) else self._begin(_Message, "msg")
        assert isinstance(self._open, _Message)  # noqa: S101  # begun if it was not
        return [*begun, *self._open.more(text, self._taken())]

    def _reason(self, text: str) -> list[Event]:
        begun = [] if isinstance(self._open, _Reasoning) else self._begin(_Reasoning, "rs")
        assert isinstance(self._open, _Reasoning)  # noqa: S101  # as above
        self._logprobs = []
        return [*begun, *self._open.more(text)]

    def _taken(self) -> list[ChatLogprob]:
        taken, self._logprobs = self._logprobs, []
        return taken

    def _begin(self, make: "Callable[[str, int], _Message | _Reasoning | _Call]", prefix: str) -> list[Event]:
        closed = self._close("completed")
        self._open = make(self._new_id(prefix), len(self.output))
        return [*closed, *self._open.added()]

    def _close(self, status: ItemStatus) -> list[Event]:
        if self._open is None:
            return []
        closing, self._open = self._open, None
        item, events = closing.done(status)
        self.output.append(item)
        done: Event = {"type": "response.output_item.done", "output_index": closing.index, "item": item}
        return [*events, done]


class _Message:
    """A message that is open."""

    def __init__(self, ident: str, index: int) -> None:
        self.index = index
        self._ident = ident
        self._texts: list[str] = []
        self._logprobs: list[ChatLogprob] = []
        self._place = {"item_id": ident, "output_index": index, "content_index": 0}

    def added(self) -> list[Event]:
        return _added(self.index, output_message(self._ident, "in_progress", []), output_text("", []))

    def more(self, text: str, logprobs: list[ChatLogprob]) -> list[Event]:
        self._texts.append(text)
        self._logprobs += logprobs
        return [{"type": "response.output_text.delta", **self._place, "delta": text, "logprobs": logprobs}]

    def done(self, status: ItemStatus) -> tuple[OutputItem, list[Event]]:
        part = output_text("".join(self._texts), self._logprobs)
        told = {"text": part["text"], "logprobs": self._logprobs}
        events: list[Event] = [
            {"type": "response.output_text.done", **self._place, **told},
            {"type": "response.content_part.done", **self._place, "part": part},
        ]
        return output_message(self._ident, status, [part]), events


class _Reasoning:
    """Reasoning that is open."""

    def __init__(self, ident: str, index: int) -> None:
        self.index = index
        self._ident = ident
        self._texts: list[str] = []
        self._place = {"item_id": ident, "output_index": index, "content_index": 0}

    def added(self) -> list[Event]:
        part: ReasoningContent = {"type": "reasoning_text", "text": ""}
        return _added(self.index, reasoning_item(self._ident, "in_progress", []), part)

    def more(self, text: str) -> list[Event]:
        self._texts.append(text)
        return [{"type": "response.reasoning_text.delta", **self._place, "delta": text}]

    def done(self, status: ItemStatus) -> tuple[OutputItem, list[Event]]:
        part: ReasoningContent = {"type": "reasoning_text", "text": "".join(self._texts)}
        events: list[Event] = [
            {"type": "response.reasoning_text.done", **self._place, "text": part["text"]},
            {"type": "response.content_part.done", **self._place, "part": part},
        ]
        return reasoning_item(self._ident, status, [part]), events


class _Call:
    """A call that is open."""

    def __init__(self, ident: str, index: int, begin: CallBegin) -> None:
        self.index = index
        self._ident = ident
        self._begin = begin
        self._texts: list[str] = []
        self._place = {"item_id": ident, "output_index": index}

    def added(self) -> list[Event]:
        return _added(self.index, self._item("in_progress", ""))

    def more(self, text: str) -> list[Event]:
        self._texts.append(text)
        return [{"type": "response.function_call_arguments.delta", **self._place, "delta": text}]

    def done(self, status: ItemStatus) -> tuple[OutputItem, list[Event]]:
        item = self._item(status, "".join(self._texts))
        told = {"name": self._begin.name, "arguments": "".join(self._texts)}
        return item, [{"type": "response.function_call_arguments.done", **self._place, **told}]

    def _item(self, status: ItemStatus, arguments: str) -> OutputItem:
        return function_call(self._ident, status, self._begin.ident, self._begin.name, arguments)


def _added(index: int, item: OutputItem, part: OutputText | ReasoningContent | None = None) -> list[Event]:
    added: Event = {"type": "response.output_item.added", "output_index": index, "item": item}
    if part is None:
        return [added]
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    return [added, {"type": "response.content_part.added", **place, "part": part}]
