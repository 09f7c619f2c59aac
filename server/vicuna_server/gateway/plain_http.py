"""HTTP/1.1 and nothing else: a request that offers another protocol is answered as if it did not.

Java's client offers HTTP/2 with each request, `curl --http2` as well. The parser takes all behind such a head for the
other protocol; what is there is the request's body, so that a second parser goes on with it.
"""

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PlainHttp"]

_FRAMING = (b"content-length", b"transfer-encoding")


class PlainHttp(HttpToolsProtocol):
    """Uvicorn's protocol over httptools."""

    @property
    def offered(self) -> bool:
        """Whether the parser is at the end of a head that offers another protocol."""
        return bool(self.parser.should_upgrade())

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._go_on(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _go_on(self, rest: bytes) -> None:
        framing = [name + b": " + value for name, value in self.headers if name in _FRAMING]
        behind = _Behind(self)
        self.parser = httptools.HttpRequestParser(behind)
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *framing, b"", b""]))
        behind.head = False
        if rest:
            self.data_received(rest)


class _Behind:
    """A parser's callbacks, told to a protocol that knows the first head already."""

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
