"""Reads and validates request bodies, so that every refusal has OpenAI's shape and no body is unbounded."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from vicuna_server.errors import RequestError
from vicuna_server.protocol.errors import from_validation

__all__ = ["check_encoding", "read_body", "read_bytes"]

DISCARD_FACTOR = 16
"""A body up to so many times too large is read and thrown away: closing on a client that still writes would
reset the connection, and the client would never see the refusal."""

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model], most: int, seconds: float) -> Model:
    """Return the validated body.

    Args:
        request: whose body it is.
        model: what it must be.
        most: bytes that it may have.
        seconds: in which it must have come.

    Raises:
        RequestError: 400 for what is not valid, 408 when it does not arrive in time, 413 when it is too large.
    """
    check_encoding(request)
    data = await read_bytes(request, most, seconds)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise from_validation(error) from error


def check_encoding(request: Request) -> None:
    """Refuse a body that is compressed.

    Raises:
        RequestError: 415, naming the header.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(
            f"content-encoding: {encoding[:40]!r} is not supported for requests; send the body as it is",
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
        request: whose body has not been read.
        most: the largest body that is taken, in bytes.
        seconds: how long it may take to arrive.
        discard: one that is up to so many times larger is read to its end before it is refused.
        count: told the size of each piece that is kept; what it raises ends the reading.

    Raises:
        RequestError: 408 when it does not arrive in time, 413 when it is too large.
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
            f"the request body did not arrive within {seconds:.0f} s", status=408, code="body_timeout"
        ) from None
    except ClientDisconnect:
        raise RequestError("the client left before its request was complete", code="client_left") from None
    if size > most:
        raise _too_large(most)
    return bytes(data)


def _too_large(most: int) -> RequestError:
    return RequestError(
        f"the request body is larger than the {most} bytes this server takes",
        status=413,
        code="body_too_large",
    )
