"""Limits how many bytes of responses, or of their large events, are buffered until these are complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = [
    "ALL_LARGE_EVENTS_BYTES",
    "ALL_STREAM_STATES_BYTES",
    "LARGE_EVENT_BYTES",
    "STREAM_STATE_BYTES",
    "Buffer",
    "BufferBudget",
]

BUFFER_BYTES = 2**20
ALL_BUFFERS_BYTES = 32 * 2**20
LARGE_EVENT_BYTES = 16 * 2**20
"""One event of a stream. The last of `/v1/responses` repeat the whole response, with what its request said."""
ALL_LARGE_EVENTS_BYTES = 64 * 2**20
STREAM_STATE_BYTES = 2**20
"""Of one stream: the ids of its tokens, for 150 000 tokens or more."""
ALL_STREAM_STATES_BYTES = 32 * 2**20


class BufferBudget:
    """Counts the buffered bytes of all responses.

    Args:
        most: bytes of all responses together.
        each: bytes of one response.
    """

    def __init__(self, most: int = ALL_BUFFERS_BYTES, each: int = BUFFER_BYTES) -> None:
        self.most = most
        self.each = each
        self.bytes = 0

    @contextmanager
    def buffer(self) -> Iterator["Buffer"]:
        """Count one response's bytes; at the end they are released."""
        buffer = Buffer(self)
        try:
            yield buffer
        finally:
            buffer.release()


@dataclass(slots=True)
class Buffer:
    """The buffered bytes of one response."""

    budget: BufferBudget
    bytes: int = 0

    def grow(self, count: int) -> bool:
        """Count `count` bytes more; False: there is no room, and nothing is counted."""
        if self.bytes + count > self.budget.each or self.budget.bytes + count > self.budget.most:
            return False
        self.bytes += count
        self.budget.bytes += count
        return True

    def release(self) -> None:
        """Free all bytes."""
        self.budget.bytes -= self.bytes
        self.bytes = 0
