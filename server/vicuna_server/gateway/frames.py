"""Server-sent events passed on as whole frames, so that a stream that breaks off can still end with an error event.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import json

__all__ = ["Frames"]

_MOST_BYTES = 4 * 2**20
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_USAGE = b'"usage"'


class Frames:
    """Holds back the unfinished end of what has arrived; changes no byte.

    Attributes:
        usage: the last `usage` object that an event carried, None before.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.usage: dict[str, object] | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the frames that are complete now, as they came.

        Raises:
            ValueError: a frame is larger than 4 MiB.
        """
        data = self._rest + data if self._rest else data
        end = max(place + len(mark) if (place := data.rfind(mark)) >= 0 else 0 for mark in _ENDS)
        self._rest = data[end:]
        if len(self._rest) > _MOST_BYTES:
            raise ValueError("an event is larger than 4 MiB")
        complete = data[:end]
        if _USAGE in complete:
            self._note_usage(complete)
        return complete

    def rest(self) -> bytes:
        """Return what has no end yet."""
        return self._rest

    def _note_usage(self, data: bytes) -> None:
        for line in data.splitlines():
            if line.startswith(b"data:") and _USAGE in line:
                try:
                    usage = json.loads(line[5:]).get("usage")
                except (ValueError, AttributeError):
                    continue
                if isinstance(usage, dict):
                    self.usage = usage
