"""Reads and validates request bodies, so that every refusal has OpenAI's shape and no body is unbounded."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from vicuna_server.errors import RequestError
from vicuna_server.http.settings import ServiceSettings
from vicuna_server.protocol.errors import from_validation

__all__ = ["read_body"]

DISCARD_FACTOR = 16
"""A body up to so many times too large is read and thrown away: closing on a client that still writes would
reset the connection, and the client would never see the refusal."""

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model], settings: ServiceSettings) -> Model:
    """Return the validated body.

    Raises:
        RequestError: 400 for what is not valid, 408 when it does not arrive in time, 413 when it is too large.
    """
    most = settings.max_body_bytes
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most * DISCARD_FACTOR:
        raise _too_large(settings)
    data = bytearray()
    size = 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most * DISCARD_FACTOR:
                    raise _too_large(settings)
                if size <= most:
                    data += chunk
    except TimeoutError:
        raise RequestError(
            f"the request body did not arrive within {settings.body_seconds:.0f} s", status=408, code="body_timeout"
        ) from None
    except ClientDisconnect:
        raise RequestError("the client left before its request was complete", code="client_left") from None
    if size > most:
        raise _too_large(settings)
    try:
        return model.model_validate_json(bytes(data))
    except ValidationError as error:
        raise from_validation(error) from error


def _too_large(settings: ServiceSettings) -> RequestError:
    return RequestError(
        f"the request body is larger than the {settings.max_body_bytes} bytes this server takes",
        status=413,
        code="body_too_large",
    )
