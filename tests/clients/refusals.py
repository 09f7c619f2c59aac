"""What this server does not do yet, and that a client's user reads so: the sentence names the field or the route."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["refused"]

TOLD = {
    "tools": "tools: not supported by this server",
    "tool_calls": "tool_calls: not supported by this server",
    "response_format": "response_format: only text is supported by this server",
    "structured_outputs": "structured_outputs: this server does not constrain the output's format",
}


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Expect the block to raise an error, of whatever kind the client has, with the server's sentence in it."""
    with pytest.raises(Exception, match=re.escape(TOLD[what])):
        yield
