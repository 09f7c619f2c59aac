"""The ASGI application of one model server, around a given engine. Imports no torch."""

from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp

from vicuna_server import __version__
from vicuna_server.api import chat, completions, counting, embeddings, status, tokens
from vicuna_server.api.generation import GenerationService
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import Metrics
from vicuna_server.api.middleware import CommonHeaders
from vicuna_server.api.responses import route as responses
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.api.signed import RequireSignature
from vicuna_server.asgi import errors, openapi, page
from vicuna_server.asgi.cors import with_origins
from vicuna_server.asgi.draining import CloseWhileDraining
from vicuna_server.asgi.heads import HeaderLimit
from vicuna_server.asgi.methods import HeadAndOptions
from vicuna_server.asgi.routes import methods_of, put_first
from vicuna_server.engine import Engine

__all__ = ["create_app"]


def create_app(engine: Engine, settings: ServiceSettings, lifecycle: Lifecycle) -> ASGIApp:
    """Return the ASGI application; the caller loads the engine and drains, through `lifecycle`."""
    metrics = Metrics(engine, lifecycle)
    service = GenerationService(engine, settings, lifecycle, metrics)
    # FastAPI's documentation pages would load scripts from other hosts.
    app = FastAPI(title="vicuna-server", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    errors.install(app)
    app.include_router(page.router())
    app.include_router(status.router(engine, settings, lifecycle, metrics))
    completing = chat.router(service), completions.router(service)
    for router in completing:
        app.include_router(router)
    app.include_router(responses.router(service))
    app.include_router(embeddings.router(service))
    app.include_router(tokens.router(service))
    counts = counting.CountsRegistry(metrics.on_usage)
    app.include_router(counting.router(counts))
    openapi.install(app)
    put_first(app, *completing)
    counted = counting.CountingMiddleware(HeaderLimit(app), counts)
    behind: ASGIApp = HeadAndOptions(CloseWhileDraining(counted, lifecycle), partial(methods_of, app))
    if settings.signatures is not None:
        behind = RequireSignature(behind, settings.signatures)
    return with_origins(CommonHeaders(behind, settings.revision, metrics), settings.allowed_origins)
