"""The gateway's routes."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from vicuna_server import __version__
from vicuna_server.gateway.catalogue import Catalogue, Model
from vicuna_server.gateway.gate import Gate
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.routing import Router
from vicuna_server.gateway.upstream import Upstream
from vicuna_server.http import errors, page
from vicuna_server.page import PAGE_PATHS

__all__ = ["OPEN_PATHS", "create_app", "create_metrics_app"]

OPEN_PATHS = frozenset({"/livez", "/readyz", *PAGE_PATHS})
"""What needs no key: the health checks, and the page, which is where one is entered."""

_BODY = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}


def create_app(catalogue: Catalogue, upstream: Upstream, rates: Rates, is_ready: Callable[[], bool]) -> Gate:
    """Return the ASGI application, behind its gate."""
    router = Router(catalogue, upstream)
    # The web pages of the documentation would load scripts from other hosts.
    app = FastAPI(title="vicuna-gateway", version=__version__, docs_url=None, redoc_url=None)
    errors.install(app)
    app.include_router(page.router())

    @app.get("/livez")
    async def livez() -> Response:
        """Say that the process answers."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        """Say whether models and keys are known and the gateway is not about to stop."""
        return PlainTextResponse("ok\n") if is_ready() else PlainTextResponse("not ready\n", 503)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        """List the models that the key may use, each with its state."""
        seen = catalogue.visible(request.state.key.may_use)
        return JSONResponse({"object": "list", "data": [_describe(model, catalogue) for model in seen]})

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        """Describe one model."""
        return JSONResponse(_describe(catalogue.resolve(name, request.state.key.may_use), catalogue))

    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        app.add_api_route(path, router.forward, methods=["POST"], openapi_extra={"requestBody": _BODY})
    return Gate(app, OPEN_PATHS, rates)


def create_metrics_app(upstream: Upstream) -> FastAPI:
    """Return the application of the metrics port, which needs no key and is not for clients."""
    from vicuna_server.gateway.metrics import CONTENT_TYPE

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(upstream.metrics.render(), media_type=CONTENT_TYPE)

    return app


def _describe(model: Model, catalogue: Catalogue) -> dict[str, object]:
    """Return OpenAI's model object, with the state beside it."""
    ready = bool(catalogue.endpoints(model))
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "vicuna-operator",
        "status": "ready" if ready else "not ready",
        "reason": model.reason,
        "message": model.message,
    }
