"""What the gateway keeps of a stream, so that another server can go on with it; see `vicuna_contract.stream_state`.

Servers may be hostile. What one states is kept as it came, within bounds, and only another server of its model gets it.
"""

import json
import re
import time
from collections.abc import Callable

from vicuna_contract.names import COUNTS_COMMENT
from vicuna_contract.stream_state import MOST_BEGIN_BYTES, STATE_COMMENT, TOKENS_COMMENT, WHY_OFF

__all__ = ["CONTINUED_PATHS", "StreamState", "events_in"]

CONTINUED_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
_BEGIN = STATE_COMMENT.removeprefix(COUNTS_COMMENT)
_TOKENS = TOKENS_COMMENT.removeprefix(COUNTS_COMMENT)
_IDS = re.compile(rb"[0-9]{1,10}(?:,[0-9]{1,10})*+")


class StreamState:
    """One stream.

    Args:
        grow: asked for so many bytes more; False: there is no room for them, and no other server can go on.
        clock: seconds that only grow.
    """

    def __init__(self, grow: Callable[[int], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._grow = grow
        self._clock = clock
        self._began = clock()
        self._begin = b""
        self._off = ""
        self._tokens = bytearray()
        self._events = 0
        self._complete = True

    @property
    def events(self) -> int:
        """Events that the client has."""
        return self._events

    @property
    def lasting(self) -> bool:
        """Whether another server can go on."""
        return bool(self._begin) and self._complete

    @property
    def why_off(self) -> str:
        """Why none can, in words for the client; empty: it is not known."""
        return WHY_OFF.get(self._off, "")

    def read(self, said: bytes) -> None:
        """Take in what a server's comment says behind `COUNTS_COMMENT`."""
        if said.startswith(_TOKENS):
            self._add(said[len(_TOKENS) :])
        elif said.startswith(_BEGIN) and not self._begin and not self._off:
            self._open(said[len(_BEGIN) :])

    def passed(self, frames: bytes) -> None:
        """Count the events in whole frames that the client has got."""
        self._events += events_in(frames)

    def written(self) -> bytes:
        """Return it as another server gets it."""
        seconds = self._clock() - self._began
        return b'{"begin":%b,"events":%d,"seconds":%.3f,"tokens":[%b]}' % (
            self._begin,
            self._events,
            seconds,
            bytes(self._tokens),
        )

    def _open(self, statement: bytes) -> None:
        try:
            found = json.loads(statement) if len(statement) <= MOST_BEGIN_BYTES else None
        except (ValueError, RecursionError):
            return
        if not isinstance(found, dict):
            return
        off = found.get("off")
        if isinstance(off, str):
            self._off = off if off in WHY_OFF else ""
        else:
            self._begin = statement

    def _add(self, ids: bytes) -> None:
        if not self._complete:
            return
        if not _IDS.fullmatch(ids) or not self._grow(len(ids) + 1):
            self._complete = False
            self._tokens.clear()
            return
        if self._tokens:
            self._tokens += b","
        self._tokens += ids


def events_in(frames: bytes) -> int:
    """Return how many events are in whole frames."""
    return frames.count(b"\ndata:") + frames.startswith(b"data:")
