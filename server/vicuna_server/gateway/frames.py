"""Passes on server-sent events as whole frames, so that a stream that breaks off can end with an error event.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from collections.abc import Callable
from itertools import pairwise

from vicuna_contract.names import COUNTS_COMMENT
from vicuna_contract.stream_state import TOKENS_COMMENT
from vicuna_server.gateway.response_head import BadResponseError
from vicuna_server.gateway.usage import last_usage
from vicuna_server.protocol.counts import Counts, Used

__all__ = ["MOST_FRAME_BYTES", "Frames"]

MOST_FRAME_BYTES = 256 * 2**10
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_END = re.compile(rb"\n\n|\n\r\n|\r\r")
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\] *[\r\n]")
_OWN = re.compile(rb"(?:%b(?<![^\r\n]%b)[^\r\n]*+(?:\r\n|\r|\n|\Z))++(\r\n|\r|\n|)" % (COUNTS_COMMENT, COUNTS_COMMENT))
"""Lines that are comments for the gateway, and the end of their frame if it follows them."""


class Frames:
    """Keeps an incomplete frame until its end arrives, and removes comments that are for the gateway.

    No other byte is changed. A JSON string escapes line ends, so a model's text is never taken for such a comment. Time
    and memory are linear in the bytes.

    Args:
        on_usage: called with the counts that a comment states, or those of an event before any comment.
        grow: asked for so many bytes more for an event larger than 256 KiB; False: there is no room for it.
        on_state: called with what a comment says, behind `COUNTS_COMMENT`, that states no counts.

    Attributes:
        on_state: the same; it may be replaced.
        grow: the same.
        done: whether `data: [DONE]` has arrived, which ends a stream; what follows it is dropped.
        counts: of the last comment that states counts; None before.
    """

    def __init__(
        self,
        on_usage: Callable[[Used], None] = lambda _: None,
        grow: Callable[[int], bool] = lambda _: False,
        on_state: Callable[[bytes], None] | None = None,
    ) -> None:
        self._on_usage = on_usage
        self.on_state = on_state
        self.grow = grow
        self._room = MOST_FRAME_BYTES
        self._held = bytearray()
        self.done = False
        self.counts: Counts | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the frames that are complete now, unchanged.

        Raises:
            BadResponseError: a frame is larger than 256 KiB, and there is no room for it.
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
            self._on_usage(used)
        return complete

    def rest(self) -> bytes:
        """Return the incomplete frame."""
        return self._without_own(bytes(self._held))

    def _without_own(self, frames: bytes) -> bytes:
        """Return the frames without comments for the gateway; a frame of nothing else is removed."""
        if self.on_state is not None and frames.startswith(TOKENS_COMMENT):  # nearly always one in front of an event
            end = frames.find(b"\n\n")
            said = frames[len(COUNTS_COMMENT) : max(end, 0)]
            if said and b"\r" not in said and frames.find(COUNTS_COMMENT, end) < 0:
                self.on_state(said)
                return frames[end + 2 :]
        counts = b""

        def take(own: re.Match[bytes]) -> bytes:
            nonlocal counts
            for line in own[0].splitlines():
                said = line[len(COUNTS_COMMENT) :]
                if said.startswith(b" "):
                    counts = said
                elif said and self.on_state is not None:
                    self.on_state(said)
            start = own.start()
            if not own[1] or start == 0 or frames.endswith(_ENDS, 0, start):
                return b""
            return frames[start - 1 : start]  # keeps the end of the line before: CR followed by LF would be one end

        left = _OWN.sub(take, frames)
        if counts and (stated := Counts.read(counts)):
            self.counts = stated
            self._on_usage(stated.used)
        return left

    def _complete(self, data: bytes) -> bytes:
        held = self._held
        if not held and len(data) <= MOST_FRAME_BYTES and data.endswith(_ENDS):
            return data  # the usual case
        seen = max(0, len(held) - 2)  # an end of three bytes may have started before
        held += data
        if len(held) > self._room:
            self._check(held, seen)
        end = max(place + len(mark) if (place := held.rfind(mark, seen)) >= 0 else 0 for mark in _ENDS)
        complete = bytes(held[:end])
        del held[:end]
        return complete

    def _check(self, data: bytearray, seen: int) -> None:
        """Make room for the longest frame; before `seen` none ends."""
        ends = [0, *(match.end() for match in _END.finditer(data, seen)), len(data)]
        longest = max(stop - start for start, stop in pairwise(ends))
        if longest <= self._room:
            return
        if not self.grow(longest - self._room):
            raise BadResponseError(
                f"the server of this model sent an event of more than {self._room >> 10} KiB, the most that is passed "
                "on now"
            )
        self._room = longest
