"""Every failure of a request as OpenAI's error object, our own and the framework's."""

import logging

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.asgi.hints import no_route
from vicuna_server.asgi.routes import paths_of
from vicuna_server.errors import OverloadedError, VicunaError
from vicuna_server.protocol.errors import error_body, error_of
from vicuna_server.protocol.quoting import quoted

__all__ = ["error_response", "install", "on_bug"]

logger = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(VicunaError, _on_own_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, on_bug)


def error_response(error: VicunaError) -> JSONResponse:
    """Return the response for one of our own errors."""
    status, body = error_of(error)
    headers = {"retry-after": str(error.retry_after)} if isinstance(error, OverloadedError) else None
    if status in (408, 413, 431):
        headers = {"connection": "close"}  # the rest of the request is not read
    return JSONResponse(body, status, headers)


async def _on_own_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, VicunaError)  # noqa: S101  # what this handler is registered for
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # what this handler is registered for
    message, code, path = str(error.detail), None, request.scope["path"]
    if error.status_code == 404:
        message, code = no_route(request.method, path, paths_of(request.app)), "route_not_found"
    elif error.status_code == 405:
        message = f"the route {quoted(path)} does not accept {quoted(request.method)}{_allowed(error)}"
        code = "method_not_allowed"
    return JSONResponse(error_body(error.status_code, message, code=code), error.status_code, error.headers)


def _allowed(error: HTTPException) -> str:
    allowed = (error.headers or {}).get("Allow")
    return f"; it accepts {allowed}" if allowed else ""


async def on_bug(request: Request, error: Exception) -> Response:
    """Return the response for a bug of our own; the reason is in the log."""
    logger.error("request %s %s failed", request.method, request.url.path, exc_info=error)
    message = "the server failed on this request because of a bug; its log has the reason, please report it"
    return JSONResponse(error_body(500, message), 500)
