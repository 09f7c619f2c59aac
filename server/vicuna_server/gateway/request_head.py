"""Which of a client's headers a model's server gets: a short list, limited in length.

The server runs a tenant's image, so it gets no API key. Headers that the gateway itself sets for a server are not in
the list: clients can neither set nor replace them.
"""

import re
from collections.abc import Sequence

__all__ = ["request_headers"]

_PASSED = {
    b"accept": 256,
    b"content-type": 256,
    b"traceparent": 128,
    b"tracestate": 512,
}
"""Names in lower case, and the longest value that is passed on, in bytes; a longer one is left out.

Trace headers: https://www.w3.org/TR/trace-context/, which requires at least 512 bytes to be passed on.
"""
_HARMLESS = re.compile(rb"[\x20-\x7e]+")


def request_headers(
    raw: Sequence[tuple[bytes, bytes]], request_id: str, own: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Return the head of the request to a server.

    Args:
        raw: the client's headers; of several with one name the first is used.
        request_id: the client's, else the gateway's.
        own: the gateway's own headers for the server, by name and value.
    """
    passed: dict[bytes, bytes] = {b"content-type": b"application/json"}
    seen = set()
    for given, value in raw:
        name = given.lower()
        if name in seen or name not in _PASSED:
            continue
        seen.add(name)
        if len(value) <= _PASSED[name] and _HARMLESS.fullmatch(value):
            passed[name] = value
    # the gateway does not decompress, and passes no accept-encoding of the client on
    always = [("accept-encoding", "identity"), ("x-request-id", request_id)]
    return [(name.decode(), value.decode()) for name, value in passed.items()] + always + list(own)
