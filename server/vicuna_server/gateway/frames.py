"""Server-sent events passed on as whole frames, so that a stream that breaks off can still end with an error event.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re

from vicuna_server.gateway.answer_head import BadAnswerError
from vicuna_server.gateway.usage import Counts, last_usage

__all__ = ["MOST_FRAME_BYTES", "Frames"]

MOST_FRAME_BYTES = 256 * 2**10
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_END = re.compile(rb"\n\n|\n\r\n|\r\r")
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\] *[\r\n]")


class Frames:
    """Holds back the unfinished end of what has arrived; changes no byte. Time and memory are linear in the bytes.

    Attributes:
        usage: what the last event with a `usage` object says, None before.
        done: `data: [DONE]` has come, with which a stream ends; what comes behind it is nobody's.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self.usage: Counts | None = None
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Return the frames that are complete now, as they came.

        Raises:
            BadAnswerError: a frame is larger than 256 KiB.
        """
        if self.done:
            return b""
        complete = self._complete(data)
        if b"[DONE]" in complete and (match := _DONE.search(complete)):
            self.done = True
            self._held.clear()
            end = _END.search(complete, match.end() - 1)
            complete = complete[: end.end()] if end else complete
        if b'"usage"' in complete:
            self.usage = last_usage(complete, line=b"data:") or self.usage
        return complete

    def rest(self) -> bytes:
        """Return what has no end yet."""
        return bytes(self._held)

    def _complete(self, data: bytes) -> bytes:
        held = self._held
        if not held and len(data) <= MOST_FRAME_BYTES and data.endswith(_ENDS):
            return data  # nearly always
        seen = max(0, len(held) - 2)  # an end of three bytes may have begun before
        held += data
        if len(held) > MOST_FRAME_BYTES:
            _check(held)
        end = max(place + len(mark) if (place := held.rfind(mark, seen)) >= 0 else 0 for mark in _ENDS)
        complete = bytes(held[:end])
        del held[:end]
        return complete


def _check(data: bytearray) -> None:
    start = 0
    for stop in [*(match.end() for match in _END.finditer(data)), len(data)]:
        if stop - start > MOST_FRAME_BYTES:
            raise BadAnswerError(f"the server of this model sent an event of more than {MOST_FRAME_BYTES >> 10} KiB")
        start = stop
