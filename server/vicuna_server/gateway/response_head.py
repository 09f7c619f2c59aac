"""Which parts of a server's response a client gets: few statuses, three content types, and a short list of headers.

Servers run a tenant's image. Their heads must not control a browser or a proxy before the gateway (cookies, redirects,
`x-accel-redirect`, upgrades, HTML), and must not grow the gateway's memory.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vicuna_contract.names import REVISION_HEADER, TRIMMED_HEADER

__all__ = ["EVENT_STREAM", "BadResponseError", "ResponseHead", "printable", "read_head"]

EVENT_STREAM = "text/event-stream"
_MEDIA_TYPES = frozenset({"application/json", EVENT_STREAM, "text/plain"})
_UTF8 = re.compile(r"charset\s*=\s*\"?utf-?8\"?", re.IGNORECASE)
_PASSED = {
    "cache-control": re.compile(r"[a-z0-9=, -]{1,128}", re.IGNORECASE),
    "retry-after": re.compile(r"[0-9]{1,5}|[A-Za-z]{3}, [A-Za-z0-9: ]{1,30}"),
    REVISION_HEADER: re.compile(r"[0-9a-z]{1,16}"),
    TRIMMED_HEADER: re.compile(r"[0-9]{1,9}"),
}
"""Names in lower case, and the pattern of their values; a header with another value is left out."""


class BadResponseError(ValueError):
    """A response that is not passed on; no other server is tried, since it would send the same.

    Args:
        why: for the client and the log.
        code: of the error object.
    """

    def __init__(self, why: str, code: str = "upstream_invalid") -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response, as the client gets it.

    Attributes:
        status: 200 to 599, without 3xx.
        media_type: one of three; empty where there is no body.
        headers: name and value of each.
        revision: of the server; empty where neither its pod nor the response states a valid one.
        length: of the body in bytes, where the server states it.
    """

    status: int
    media_type: str
    headers: tuple[tuple[bytes, bytes], ...]
    revision: str
    length: int | None

    @property
    def is_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self.media_type == EVENT_STREAM


def read_head(status: int, headers: Mapping[str, str], revision: str = "") -> ResponseHead:
    """Return the head that the client gets.

    Args:
        status: any number.
        headers: by name in any case.
        revision: of the server's pod; empty: the one that the head states.

    Raises:
        BadResponseError: the response must not be passed on.
    """
    _check(status, headers.get("content-encoding", "identity"))
    media_type, with_charset = _media_type(status, headers.get("content-type", ""))
    if media_type == EVENT_STREAM and status != 200:
        raise BadResponseError(f"the server of this model sent an event stream with status {status}; 200 is expected")
    passed = _passed(headers, revision)
    content_type = {"content-type": with_charset} if with_charset else {}
    buffering = {"x-accel-buffering": "no"} if media_type == EVENT_STREAM else {}  # for a proxy before the gateway
    length = headers.get("content-length", "")
    return ResponseHead(
        status,
        media_type,
        tuple((name.encode(), value.encode()) for name, value in (content_type | passed | buffering).items()),
        passed.get(REVISION_HEADER, ""),
        int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None,
    )


def _passed(headers: Mapping[str, str], revision: str) -> dict[str, str]:
    values = {name: headers.get(name, "") for name in _PASSED}
    values[REVISION_HEADER] = revision or values[REVISION_HEADER]
    return {name: value for name, value in values.items() if _PASSED[name].fullmatch(value)}


def _check(status: int, encoding: str) -> None:
    if not 200 <= status <= 599 or 300 <= status <= 399:
        raise BadResponseError(f"the server of this model responded with status {status}, which is not passed on")
    if encoding.strip().lower() not in ("", "identity"):
        raise BadResponseError("the server of this model compressed its response, though the request asked for none")


def _media_type(status: int, given: str) -> tuple[str, str]:
    """Return the content type without and with its charset, of which only UTF-8 is passed on."""
    if status == 204:
        return "", ""
    media_type, _, parameters = given.partition(";")
    media_type = media_type.strip().lower()
    if media_type not in _MEDIA_TYPES:
        said = printable(media_type, 60) or "none"
        raise BadResponseError(
            f"the server of this model responded {status} with content type {said}; "
            f"only {', '.join(sorted(_MEDIA_TYPES))} are passed on"
        )
    return media_type, f"{media_type}; charset=utf-8" if _UTF8.fullmatch(parameters.strip()) else media_type


def printable(text: str, most: int) -> str:
    """Return an untrusted text as one line of printable ASCII, cut to `most` characters."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:most])
