"""What of a client's head a model's server gets: a short list, bounded. Its image is a tenant's, so no key of any kind.

Headers that the gateway itself sets for a server are no part of the list: clients can neither set nor replace them.
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

Trace headers: https://www.w3.org/TR/trace-context/, where 512 bytes are what every party must carry at least.
"""
_HARMLESS = re.compile(rb"[\x20-\x7e]+")


def request_headers(
    raw: Sequence[tuple[bytes, bytes]], request_id: str, own: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Return the head of the request to a server.

    Args:
        raw: the client's headers; of several of one name the first counts.
        request_id: the client's or ours.
        own: what the gateway says to the server, by name and value.
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
    # nothing here could unpack an answer, and who asked has not been asked
    always = [("accept-encoding", "identity"), ("x-request-id", request_id)]
    return [(name.decode(), value.decode()) for name, value in passed.items()] + always + list(own)
