"""HTTP/1.1 only: a request that offers an upgrade to another protocol gets the same response as one that does not.

Java's client and `curl --http2` offer HTTP/2 with each request. After such a head the parser expects the other
protocol. What follows is the request's body, so a second parser continues with it.
"""

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vicuna_server.asgi.closing import ClosesWhenQuiet

__all__ = ["PlainHttp"]

_FRAMING = (b"content-length", b"transfer-encoding")


class PlainHttp(ClosesWhenQuiet, HttpToolsProtocol):
    """Uvicorn's protocol over httptools."""

    @property
    def offered(self) -> bool:
        """Whether the parser is at the end of a head that offers another protocol."""
        return bool(self.parser.should_upgrade())

    def data_received(self, data: bytes) -> None:
        """Parse the bytes that arrived."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._continue_without_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _continue_without_upgrade(self, rest: bytes) -> None:
        framing = [name + b": " + value for name, value in self.headers if name in _FRAMING]
        callbacks = _BodyCallbacks(self)
        self.parser = httptools.HttpRequestParser(callbacks)
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
        callbacks.head = False
        if rest:
            self.data_received(rest)


class _BodyCallbacks:
    """The callbacks of a second parser; its first head is skipped, since the protocol has it already."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.head = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self.head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.head:
            self._protocol.on_headers_complete()
