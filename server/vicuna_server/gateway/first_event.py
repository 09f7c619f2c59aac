"""Errors as the first event of a stream: tells whether it is one, and makes one of a response.

Where a stream begins with an error, another server can still take the request.

vLLM 0.32 states a full queue this way: it has sent status 200 before it knows.
"""

import json
from typing import Any

from starlette.responses import Response

from vicuna_server.asgi.sse import frame
from vicuna_server.protocol.errors import error_body

__all__ = ["TRY_ELSEWHERE", "error_event", "error_in", "refusal_in"]

TRY_ELSEWHERE = frozenset({429, 500, 502, 503})
"""Statuses of a server that is full, starting, broken or about to stop: another server may take the request.

500: vLLM answers so while it drains.
"""

_MIN_STATUS, _MAX_STATUS = 400, 599
_UNSTATED = 500


def error_in(frames: bytes) -> tuple[int, bytes] | None:
    """Return the status and the JSON body of an error that is the first event of these frames.

    The status is `error.code` where that is one, else 500.

    Args:
        frames: Whole server-sent events; comments and other fields are passed over.
    """
    if b'"error"' not in frames:  # the usual case
        return None
    first = next((line for line in frames.splitlines() if line.startswith(b"data:")), b"").removeprefix(b"data:")
    error = _error(first)
    if error is None:
        return None
    stated = error.get("code")
    if type(stated) is not int or not _MIN_STATUS <= stated <= _MAX_STATUS:
        stated = _UNSTATED
    return stated, first.strip()


def refusal_in(frames: bytes) -> Response | None:
    """Return the error that is the first event of these frames, where another server may take the request."""
    if (error := error_in(frames)) is None or error[0] not in TRY_ELSEWHERE:
        return None
    return Response(error[1], error[0], media_type="application/json")


def error_event(response: Response) -> bytes:
    """Return a response that is an error as an event, on which OpenAI's clients raise."""
    body = bytes(response.body)
    if _error(body) is not None:
        return frame(json.loads(body))
    return frame(error_body(response.status_code, "the server of this model refused the request; send it again"))


def _error(data: bytes) -> dict[str, Any] | None:
    """Return `error` of a JSON object; None where there is none."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    error = event.get("error") if isinstance(event, dict) else None
    return error if isinstance(error, dict) else None
