"""What a client gets where no server of a model gives it a response."""

import logging

from starlette.responses import Response

from vicuna_server.asgi.errors import error_response
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.response_head import BadResponseError
from vicuna_server.protocol.responses.ids import response_not_found

__all__ = ["LOST_MESSAGE", "gateway_refused", "invalid", "lost_message", "no_response", "not_ready", "refused"]

logger = logging.getLogger(__name__)

LOST_MESSAGE = "the connection to this model's server was lost before its response was complete; send the request again"


def lost_message(why_off: str) -> str:
    """Return what the client of a stream gets whose server was lost; `why_off`: why no other one could go on."""
    if not why_off:
        return LOST_MESSAGE
    return (
        "the connection to this model's server was lost before its response was complete, and no other server goes on "
        f"with it, since {why_off}; send the request again"
    )


def not_ready(model: Model) -> OverloadedError:
    """Return 503 `model_not_ready`, with the reason that the VicunaModel states."""
    why = f"{model.reason}: {model.message}" if model.reason else "none of its servers is ready; try again in 5 s"
    return OverloadedError(f"{model.id} is not ready: {why}", status=503, code="model_not_ready", retry_after=5)


def no_response(model: Model, attempts: int, *, gone: bool = False) -> Response:
    """Return 502 `upstream_failed` after so many attempts; 503 `model_not_ready` where no server is ready.

    `gone`: there are servers, but none that may keep the response that the request continues; then it is 404.
    """
    if not attempts and gone:
        return error_response(response_not_found("previous_response_id"))
    if not attempts:
        return error_response(not_ready(model))
    message = f"none of {attempts} servers of {model.id} responded; try again"
    return error_response(RequestError(message, status=502, code="upstream_failed"))


def refused(model: Model, status: int) -> Response:
    """Return `upstream_refused`: a server refused the request, with a response that is not passed on."""
    message = f"a server of {model.id} refused the request with status {status}; try again"
    return error_response(OverloadedError(message, status=status, code="upstream_refused"))


def gateway_refused(model: Model, url: str) -> Response:
    """Return 502 `upstream_refused` for a server's 401: the client's key is valid, so the fault is not the client's."""
    logger.warning(
        "%s of %s refused the gateway itself (401): its pods may hold other public keys, or clocks differ",
        url,
        model.id,
    )
    message = f"the server of {model.id} refused the gateway itself; ask its administrator, whose log has the reason"
    return error_response(RequestError(message, status=502, code="upstream_refused"))


def invalid(error: BadResponseError) -> Response:
    """Return 502 for a response that is not passed on."""
    response = error_response(RequestError(str(error), status=502, code=error.code))
    response.headers["x-should-retry"] = "false"  # OpenAI's clients would retry twice, with the same result
    return response
