"""Reads and validates request bodies: every error is OpenAI's error object, and every body is bounded."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from vicuna_server.errors import RequestError
from vicuna_server.protocol.errors import from_validation

__all__ = ["check_encoding", "read_body", "read_bytes"]

DISCARD_FACTOR = 16
"""A body up to so many times the limit is read and discarded. To close while the client still writes would reset the
connection, and the client would not get the response."""

Model = TypeVar("Model", bound=BaseModel)


async def read_body(
    request: Request, model: type[Model], most: int, seconds: float, *, behind: int = 0
) -> tuple[Model, bytes]:
    """Return the validated body, and what comes behind it.

    Args:
        request: Whose body is read.
        model: Validates the body.
        most: The largest body that is accepted, in bytes.
        seconds: Time for the body to arrive.
        behind: So many bytes at the end are not the body's.

    Raises:
        RequestError: 400 for an invalid body, 408 for one that does not arrive in time, 413 for one that is too large.
    """
    check_encoding(request)
    data = await read_bytes(request, most + behind, seconds)
    end = max(0, len(data) - behind)
    try:
        return model.model_validate_json(data[:end] if behind else data), data[end:]
    except ValidationError as error:
        raise from_validation(error) from error


def check_encoding(request: Request) -> None:
    """Refuse a body that is compressed.

    Raises:
        RequestError: 415, with the header's value.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(
            f"the header content-encoding is {encoding[:40]!r}, which is not supported for requests; "
            "send the body uncompressed",
            status=415,
            code="unsupported_content_encoding",
        )


async def read_bytes(
    request: Request,
    most: int,
    seconds: float,
    *,
    discard: int = DISCARD_FACTOR,
    count: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Return the body.

    Args:
        request: Whose body has not been read.
        most: The largest body that is accepted, in bytes.
        seconds: Time for the body to arrive.
        discard: A body up to so many times the limit is read to its end before it is refused.
        count: Called with the bytes of each chunk that is kept; an error that it raises ends the reading.

    Raises:
        RequestError: 408 for a body that does not arrive in time, 413 for one that is too large.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most * discard:
        raise _too_large(most)
    data = bytearray()
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most * discard:
                    raise _too_large(most)
                if size <= most:
                    count(len(chunk))
                    data += chunk
    except TimeoutError:
        raise RequestError(
            f"the request body did not arrive within {seconds:.0f} s; send it faster, or a smaller one",
            status=408,
            code="body_timeout",
        ) from None
    except ClientDisconnect:
        raise RequestError(
            "the client closed the connection before its request was complete", code="client_left"
        ) from None
    if size > most:
        raise _too_large(most)
    return bytes(data)


def _too_large(most: int) -> RequestError:
    return RequestError(
        f"the request body is larger than {most} bytes, the limit of this server; send a smaller one",
        status=413,
        code="body_too_large",
    )
