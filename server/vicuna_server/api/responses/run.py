"""One response while it is made: its events, its object at the end, and whether it is kept."""

import time
from collections.abc import Callable
from typing import Any

from vicuna_server.api.choices import Choices
from vicuna_server.api.logprobs import chat_logprobs
from vicuna_server.api.responses.answering import Parser
from vicuna_server.api.responses.assembly import Assembly, Event
from vicuna_server.asgi.sse import named_frame
from vicuna_server.engine import OutputChunk
from vicuna_server.errors import RequestError, VicunaError
from vicuna_server.protocol.errors import error_of
from vicuna_server.protocol.responses.response import ResponseObject, response_usage

__all__ = ["ResponseRun"]

Keep = Callable[[ResponseObject], bool]
"""Keeps a response that is complete; returns whether it could be kept."""


class ResponseRun:
    """One response.

    Args:
        response: The response as it begins.
        choices: Its one choice.
        parser: Reads the parts of its text.
        new_id: Makes ids of items.
        keep: Called at the end, where the response is to be kept.
    """

    def __init__(
        self, response: ResponseObject, choices: Choices, parser: Parser, new_id: Callable[[str], str], keep: Keep
    ) -> None:
        self._response = response
        self._choices = choices
        self._parser = parser
        self._assembly = Assembly(new_id)
        self._keep = keep
        self._number = 0
        self._tokens = 0
        self._reasoning_tokens = 0
        self._finish_reason: str | None = None

    def opening(self) -> list[bytes]:
        """Return the frames in front of the first text."""
        events: list[Event] = [
            {"type": "response.created", "response": {**self._response}},
            {"type": "response.in_progress", "response": {**self._response}},
        ]
        return [named_frame(event) for event in self._numbered(events)]

    def encode(self, _: int, chunk: OutputChunk) -> list[Event]:
        """Return the events of an output chunk."""
        logprobs = chat_logprobs(chunk.token_logprobs)["content"]
        events = self._assembly.push(self._parser.push(chunk.text), logprobs)
        if self._assembly.reasoning:
            self._reasoning_tokens += chunk.tokens - self._tokens
        self._tokens = chunk.tokens
        if chunk.finish_reason is not None:
            self._finish_reason = chunk.finish_reason
            events += self._assembly.push(self._parser.end())
            events += self._assembly.end(cut=chunk.finish_reason == "length")
        return self._numbered(events)

    def tail(self) -> list[Event]:
        """Return the event behind the last output chunk: the whole response."""
        response = self.whole()
        return self._numbered([{"type": f"response.{response['status']}", "response": response}])

    def whole(self) -> ResponseObject:
        """Return the response at its end, and keep it."""
        response, cut = self._response, self._finish_reason == "length"
        response["status"] = "incomplete" if cut else "completed"
        response["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        response["completed_at"] = None if cut else int(time.time())
        self._fill()
        response["store"] = response["store"] and self._keep(response)
        return response

    def failed(self, error: VicunaError) -> bytes:
        """Return the frames of an error in mid-stream: one on which clients raise, and the response as it is."""
        response = self._response
        told = error_of(error)[1]["error"]
        code = "server_error" if not isinstance(error, RequestError) else told["code"] or "server_error"
        response["status"], response["store"] = "failed", False
        response["error"] = {"code": code, "message": told["message"]}
        self._fill()
        # OpenAI's clients read the fields of an error in the event or in its `error`, by their version.
        fields: dict[str, Any] = {"code": told["code"], "message": told["message"], "param": told["param"]}
        events: list[Event] = [
            {"type": "error", **fields, "error": told},
            {"type": "response.failed", "response": response},
        ]
        return b"".join(named_frame(event) for event in self._numbered(events))

    def _fill(self) -> None:
        self._response["output"] = self._assembly.output
        self._response["usage"] = response_usage(self._choices.usage, self._reasoning_tokens)

    def _numbered(self, events: list[Event]) -> list[Event]:
        numbered = []
        for event in events:
            kind = event.pop("type")
            numbered.append({"type": kind, "sequence_number": self._number, **event})
            self._number += 1
        return numbered
