"""Probes, metrics and the list of models."""

from typing import Literal

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from vicuna_contract.names import ENGINE_PATH
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import CONTENT_TYPE, Metrics
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.asgi.health import health_routes
from vicuna_server.asgi.openapi import operation
from vicuna_server.engine import Engine
from vicuna_server.engine.separate import HUNG, SeparateEngine, away
from vicuna_server.protocol.models import (
    Capabilities,
    ModelAbilities,
    ModelList,
    ModelObject,
    model_list,
    model_not_found,
    model_object,
)

__all__ = ["router"]


def router(engine: Engine, settings: ServiceSettings, lifecycle: Lifecycle, metrics: Metrics) -> APIRouter:
    """Return the routes that need no generation."""
    routes = APIRouter()

    def described() -> ModelObject:
        return model_object(settings.served_name, settings.created, _abilities(engine) if lifecycle.loaded else None)

    routes.include_router(health_routes(lambda: _not_ready(lifecycle, engine), lambda: engine.hung))

    @routes.get(ENGINE_PATH, response_class=PlainTextResponse, responses={503: {"description": "Hung"}})
    async def enginez() -> Response:
        """Say whether what generates gets on; where it runs in a container of its own, that one is started anew."""
        return PlainTextResponse("hung\n", 503) if away(engine) == HUNG else PlainTextResponse("ok\n")

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Return the metrics in Prometheus' text format."""
        theirs = await engine.exposition() if isinstance(engine, SeparateEngine) else b""
        return Response(metrics.render() + theirs, media_type=CONTENT_TYPE)

    @routes.get("/v1/models", openapi_extra=operation(None, ModelList))
    async def models() -> Response:
        """List the one model."""
        return JSONResponse(model_list(described()))

    @routes.get("/v1/models/{name:path}", openapi_extra=operation(None, ModelObject))
    async def model(name: str) -> Response:
        """Describe the model."""
        if not name:
            raise HTTPException(404)  # `/v1/models/` is not a route
        if name != settings.served_name:
            raise model_not_found(name, settings.served_name)
        return JSONResponse(described())

    return routes


def _abilities(engine: Engine) -> ModelAbilities:
    form = engine.chat_format
    tools: Literal["native", "generic"] = "native" if form.native else "generic"
    capabilities: Capabilities = {
        "chat": engine.chats,
        "completions": True,
        "embeddings": engine.embedding_size > 0,
        "tools": tools if engine.chats else None,
        "tool_format": form.calls.name if engine.chats else None,
        "reasoning": form.thinks,
    }
    return {"max_model_len": engine.context_length, "capabilities": capabilities}


def _not_ready(lifecycle: Lifecycle, engine: Engine) -> str:
    if not lifecycle.ready:
        return "draining" if lifecycle.draining else "loading"
    return f"engine {why}" if (why := away(engine)) else ""
