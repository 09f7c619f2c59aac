"""OpenAI's error object: `{"error": {message, type, param, code}}`.

Source: OpenAI's API reference, "Error codes", and the fields that the official clients read.
"""

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from vicuna_server.errors import RequestError, VicunaError

__all__ = ["ErrorBody", "error_body", "error_of", "from_validation"]

_TYPES = {
    400: "invalid_request_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


class ErrorObject(TypedDict):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The body of every response that is an error."""

    error: ErrorObject


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> ErrorBody:
    """Return the JSON object for an HTTP status."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_of(error: VicunaError) -> tuple[int, ErrorBody]:
    """Return status and JSON object for a failure; any error but a RequestError is the server's own, a 500."""
    if isinstance(error, RequestError):
        return error.status, error_body(error.status, error.message, error.param, error.code)
    return 500, error_body(500, error.message, code=error.reason)


def from_validation(error: ValidationError) -> RequestError:
    """Return the error for the first problem of a request body, with the field as `param`."""
    first = _likeliest(error)
    # Union branches appear in the path under type names; only field names and indices help the reader.
    path = [str(part) for part in first["loc"] if isinstance(part, int) or _is_field(part)]
    param = ".".join(path) or None
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return RequestError(
            f"the body is not valid JSON: {message.removeprefix('Invalid JSON: ')}; send one JSON object in UTF-8",
            code="invalid_json",
        )
    if param is None:
        # A rule over the whole body begins its message with the field's name.
        name, colon, _ = message.partition(": ")
        named = name if colon and name.isidentifier() else None
        return RequestError(message, param=named, code="invalid_value")
    return RequestError(f"{param}: {message}", param=param, code="invalid_value")


def _likeliest(error: ValidationError) -> ErrorDetails:
    """Return the first field's error; of a union's branches, that of the branch which fits best.

    Every branch of a union reports an error. The one with the longest path, or of the right type, fits best.
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    root = errors[0]["loc"][:1]
    related = (one for one in errors if one["loc"][:1] == root)
    return max(related, key=lambda one: (len(one["loc"]), not one["type"].endswith("_type")))


def _is_field(part: str) -> bool:
    return part.isidentifier() and part.islower() and part not in _BRANCHES


_BRANCHES = frozenset({"str", "int", "float", "bool", "none"})
