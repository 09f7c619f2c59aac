"""Server-sent events passed on as whole frames, so that a stream that breaks off can still end with an error event.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from collections.abc import Callable

from vicuna_contract.names import COUNTS_COMMENT
from vicuna_server.gateway.answer_head import BadAnswerError
from vicuna_server.gateway.usage import last_usage
from vicuna_server.protocol.counts import Counts, Used

__all__ = ["MOST_FRAME_BYTES", "Frames"]

MOST_FRAME_BYTES = 256 * 2**10
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_END = re.compile(rb"\n\n|\n\r\n|\r\r")
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\] *[\r\n]")
_OWN = re.compile(rb"(?:%b(?<![^\r\n]%b)[^\r\n]*+(?:\r\n|\r|\n|\Z))++(\r\n|\r|\n|)" % (COUNTS_COMMENT, COUNTS_COMMENT))
"""Lines that are comments for the gateway, and the end of their frame if it comes behind them."""


class Frames:
    """Holds back the unfinished end of what has arrived, and takes out comments that are for the gateway.

    No other byte is changed. In a JSON string a line's end is escaped, so that a model's words are never taken for such
    a comment. Time and memory are linear in the bytes.

    Args:
        counted: told the counts that a comment states, or an event where no comment has.

    Attributes:
        done: `data: [DONE]` has come, with which a stream ends; what comes behind it is nobody's.
        counts: what the last comment says that states counts, None before.
    """

    def __init__(self, counted: Callable[[Used], None] = lambda _: None) -> None:
        self._counted = counted
        self._held = bytearray()
        self.done = False
        self.counts: Counts | None = None

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
        if COUNTS_COMMENT in complete:
            complete = self._without_own(complete)
        if self.counts is None and b'"usage"' in complete and (used := last_usage(complete, line=b"data:")):
            self._counted(used)
        return complete

    def rest(self) -> bytes:
        """Return what has no end yet."""
        return self._without_own(bytes(self._held))

    def _without_own(self, frames: bytes) -> bytes:
        """Return the frames without the comments that are for the gateway; one that held nothing else goes whole."""
        last = b""

        def take(own: re.Match[bytes]) -> bytes:
            nonlocal last
            last = own[0]
            start = own.start()
            if not own[1] or start == 0 or frames.endswith(_ENDS, 0, start):
                return b""
            return frames[start - 1 : start]  # as the line before ends: CR and then LF would be one end

        left = _OWN.sub(take, frames)
        line = last.rstrip(b"\r\n").rpartition(COUNTS_COMMENT)[2]
        if counts := Counts.read(line):
            self.counts = counts
            self._counted(counts.used)
        return left

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
