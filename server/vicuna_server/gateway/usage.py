"""Finds the `usage` of a response: two counts, without parsing the whole response as JSON.

A JSON string escapes quotes, so a model's text is never taken for the field. The counts are untrusted: they can neither
overflow a counter nor write into the log.
"""

import json
import re
from collections.abc import Sequence

from vicuna_server.protocol.counts import Used

__all__ = ["UsageEnds", "last_usage"]

_FIELDS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
"""Names of the counts, as chats and completions have them and as `/v1/responses` has them."""
_NAME = b'"usage"'
_OPENING = re.compile(rb'"usage"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}(?=\{)')
_MOST_BYTES = 2048
_TRIES = 4
_END_BYTES = 4096
_DECODER = json.JSONDecoder()


def last_usage(data: bytes | bytearray, line: bytes = b"") -> Used | None:
    """Return the counts of the last usage object of at most 2 KiB, as far as they are 0 to 2^31 - 1.

    Args:
        data: a part of a response.
        line: prefix of the line that must hold the object.
    """
    place = len(data)
    for _ in range(_TRIES):
        place = data.rfind(_NAME, 0, place)
        if place < 0:
            return None
        match = _OPENING.match(data, place)
        begins = max(data.rfind(b"\n", 0, place), data.rfind(b"\r", 0, place)) + 1 if line else place
        if match and (not line or data.startswith(line, begins)):
            used = _used(bytes(data[match.end() : match.end() + _MOST_BYTES]))
            if used:
                return used
    return None


def _used(text: bytes) -> Used | None:
    try:
        found, _ = _DECODER.raw_decode(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    counts = [_count(found, names) for names in _FIELDS]
    return None if counts == [None, None] else Used(*(count or 0 for count in counts))


def _count(found: dict[str, object], names: Sequence[str]) -> int | None:
    """Return the count that goes by one of these names; None: there is none."""
    value = next((found[name] for name in names if name in found), None)
    return value if type(value) is int and 0 <= value < 2**31 else None


class UsageEnds:
    """Keeps the first and the last 4 KiB of a response: servers state usage near its start or end."""

    def __init__(self) -> None:
        self._first = b""
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Add the next part of the response."""
        if len(self._first) < _END_BYTES:
            self._first += data[: _END_BYTES - len(self._first)]
        self._last = (self._last + data[-_END_BYTES:])[-_END_BYTES:]

    def usage(self) -> Used | None:
        """Return the usage that the response states."""
        return last_usage(self._last) or last_usage(self._first)
