"""The application of one model server, around an engine that is given to it. Imports no torch."""

from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp

from vicuna_server import __version__
from vicuna_server.api import chat, completions, counting, status, vectors
from vicuna_server.api.generation import Answerer
from vicuna_server.api.lifecycle import Lifecycle
from vicuna_server.api.metrics import Metrics
from vicuna_server.api.middleware import CommonHeaders
from vicuna_server.api.settings import ServiceSettings
from vicuna_server.api.signed import Signed
from vicuna_server.asgi import errors, openapi, page
from vicuna_server.asgi.cors import with_origins
from vicuna_server.asgi.draining import CloseWhileDraining
from vicuna_server.asgi.heads import FewHeaders
from vicuna_server.asgi.methods import HeadAndOptions
from vicuna_server.asgi.routes import methods_of
from vicuna_server.engine import Engine

__all__ = ["create_app"]


def create_app(engine: Engine, settings: ServiceSettings, lifecycle: Lifecycle) -> ASGIApp:
    """Return the ASGI application; loading the engine and draining are the caller's part, through `lifecycle`."""
    metrics = Metrics(engine, lifecycle)
    answerer = Answerer(engine, settings, lifecycle, metrics)
    # The web pages of the documentation would load scripts from other hosts.
    app = FastAPI(title="vicuna-server", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    errors.install(app)
    app.include_router(page.router())
    app.include_router(status.router(engine, settings, lifecycle, metrics))
    app.include_router(chat.router(answerer))
    app.include_router(completions.router(answerer))
    app.include_router(vectors.router(answerer))
    ledger = counting.Ledger(metrics.used)
    app.include_router(counting.router(ledger))
    openapi.install(app)
    counted = counting.Counted(FewHeaders(app), ledger)
    behind: ASGIApp = HeadAndOptions(CloseWhileDraining(counted, lifecycle), partial(methods_of, app))
    if settings.signatures is not None:
        behind = Signed(behind, settings.signatures)
    return with_origins(CommonHeaders(behind, settings.revision, metrics), settings.allowed_origins)
