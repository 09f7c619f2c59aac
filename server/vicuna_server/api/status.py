"""Probes, metrics and the list of models."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import CONTENT_TYPE, Metrics
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.asgi.health import health_routes
from vicuna_server.asgi.openapi import operation
from vicuna_server.engine import Engine
from vicuna_server.protocol.models import ModelList, ModelObject, model_list, model_not_found, model_object

__all__ = ["router"]


def router(engine: Engine, settings: ServiceSettings, lifecycle: Lifecycle, metrics: Metrics) -> APIRouter:
    """Return the routes that need no generation."""
    routes = APIRouter()
    routes.include_router(health_routes(lambda: _not_ready(lifecycle), lambda: engine.hung))

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    @routes.get("/v1/models", openapi_extra=operation(None, ModelList))
    async def models() -> Response:
        """List the one model."""
        return JSONResponse(model_list(settings.served_name, settings.created))

    @routes.get("/v1/models/{name:path}", openapi_extra=operation(None, ModelObject))
    async def model(name: str) -> Response:
        """Describe the model."""
        if not name:
            raise HTTPException(404)  # `/v1/models/` is not a route
        if name != settings.served_name:
            raise model_not_found(name, settings.served_name)
        return JSONResponse(model_object(name, settings.created))

    return routes


def _not_ready(lifecycle: Lifecycle) -> str:
    if lifecycle.ready:
        return ""
    return "draining" if lifecycle.draining else "loading"
