"""The gateway's routes."""

from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server import __version__
from vicuna_server.asgi import errors, openapi, page
from vicuna_server.asgi.health import health_routes
from vicuna_server.asgi.methods import HeadAndOptions
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.routes import methods_of
from vicuna_server.gateway.abilities import Abilities
from vicuna_server.gateway.admission import Admission, Capacity
from vicuna_server.gateway.authentication import Authentication
from vicuna_server.gateway.catalogue import Catalogue, Model
from vicuna_server.gateway.document import Answer, Body, ModelList, ModelObject, model_object, state_of
from vicuna_server.gateway.fast_path import FastPath
from vicuna_server.gateway.holders import RESPONSES_PATH
from vicuna_server.gateway.kept_responses import KeptResponses
from vicuna_server.gateway.metrics import CONTENT_TYPE
from vicuna_server.gateway.rates import Rates
from vicuna_server.gateway.resolving import Resolver, Warnings
from vicuna_server.gateway.revocation import Revocation
from vicuna_server.gateway.routing import Router
from vicuna_server.gateway.upstream import MODELS_PATH, Upstream
from vicuna_server.page import PAGE_PATHS

__all__ = ["OPEN_PATHS", "create_app", "create_metrics_app"]

OPEN_PATHS = frozenset({"/livez", "/readyz", *PAGE_PATHS})
"""Paths that need no key: the health checks, and the page, where the user enters one."""
_FORWARDED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", RESPONSES_PATH)
_KEPT = (("GET", ""), ("DELETE", ""), ("GET", "/input_items"))
"""The routes of one kept response: method, and what is behind its id."""


def create_app(
    catalogue: Catalogue,
    upstream: Upstream,
    rates: Rates,
    is_ready: Callable[[], bool],
    abilities: Callable[[Model], Abilities],
) -> Authentication:
    """Return the ASGI application, behind authentication; `abilities` says what is known of a model."""
    settings = upstream.settings
    # FastAPI's pages of documentation would load scripts from other hosts.
    app = FastAPI(title="vicuna-gateway", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    errors.install(app)
    openapi.install(app)
    app.include_router(page.router())
    app.include_router(health_routes(lambda: "" if is_ready() else "not ready"))
    resolver = Resolver(catalogue)
    router = Router(resolver, upstream)
    app.include_router(_models(catalogue, resolver, router, abilities, upstream.demand.held))
    app.include_router(_kept_responses(KeptResponses(catalogue, upstream)))
    answers = ServerErrorMiddleware(FastPath(app, _FORWARDED, router.forward), errors.on_bug)
    behind = HeadAndOptions(Warnings(answers), partial(methods_of, app))
    revocation = Revocation(Admission(behind, Capacity(settings.max_requests, settings.max_body_memory)))
    authentication = Authentication(revocation, OPEN_PATHS, rates, settings.gets_per_minute, revocation.look)
    upstream.metrics.present = lambda: (
        [model.id for model in catalogue.visible(lambda _: True)],
        authentication.ring.names if authentication.ring is not None else (),
    )
    return authentication


def create_metrics_app(upstream: Upstream) -> FastAPI:
    """Return the application of the metrics port, which needs no key and is not for clients."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(upstream.metrics.render(), media_type=CONTENT_TYPE)

    return app


def _models(
    catalogue: Catalogue,
    resolver: Resolver,
    router: Router,
    abilities: Callable[[Model], Abilities],
    held: Callable[[tuple[str, str]], int],
) -> APIRouter:
    # only for the OpenAPI document: `Authentication` has checked the key already
    routes = APIRouter(dependencies=[Security(HTTPBearer(auto_error=False))])

    def described(model: Model) -> ModelObject:
        state = state_of(model, ready=bool(catalogue.endpoints(model)), held=held(model.key))
        return model_object(model, abilities(model), state)

    @routes.get(MODELS_PATH, openapi_extra=operation(None, ModelList))
    async def models(request: Request) -> Response:
        """List the models that the key may use, each with its state."""
        seen = catalogue.visible(request.state.key.may_use)
        return JSONResponse({"object": "list", "data": [described(model) for model in seen]})

    @routes.get(MODELS_PATH + "/{name:path}", openapi_extra=operation(None, ModelObject))
    async def model(request: Request, name: str) -> Response:
        """Describe one model."""
        return JSONResponse(described(resolver.model(request, name)))

    for path in _FORWARDED:
        routes.add_api_route(path, router.forward, methods=["POST"], openapi_extra=operation(Body, Answer))
    return routes


def _kept_responses(kept: KeptResponses) -> APIRouter:
    routes = APIRouter(dependencies=[Security(HTTPBearer(auto_error=False))])  # for the document, as above
    for method, rest in _KEPT:
        path = f"{RESPONSES_PATH}/{{response_id}}{rest}"
        routes.add_api_route(path, kept.forward, methods=[method], openapi_extra=operation(None, Answer))
    return routes
