"""The paths of an application and their methods, read from its OpenAPI document; the routes that are tried first."""

import re

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Match, Route
from starlette.types import Scope

from vicuna_server.page import PAGE_PATHS

__all__ = ["methods_of", "paths_of", "put_first"]


def paths_of(app: FastAPI) -> dict[str, set[str]]:
    """Return the methods of each path, in capitals; a part in braces is a parameter."""
    described = {path: {method.upper() for method in entry} for path, entry in app.openapi()["paths"].items()}
    return {**{path: {"GET", "HEAD"} for path in (*PAGE_PATHS, "/openapi.json")}, **described}


def methods_of(app: FastAPI, path: str) -> set[str]:
    """Return the methods of a path; empty: the path does not exist."""
    known = paths_of(app)
    if path in known:
        return known[path]
    with_parameters = (each for each in known if "{" in each)
    return {method for each in with_parameters if _pattern(each).fullmatch(path) for method in known[each]}


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(
        "".join(".+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", path))
    )


def put_first(app: FastAPI, *routers: APIRouter) -> None:
    """Have routes tried before all others, and without FastAPI's look for parameters, of which they have none.

    FastAPI still describes them, where the routers are included too.
    """
    found = (one for router in routers for one in router.routes if isinstance(one, APIRoute))
    app.router.routes[:0] = [_PlainRoute(one.path, one.endpoint, methods=one.methods) for one in found]


class _PlainRoute(Route):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, more = super().matches(scope)
        return match, {**more, "route": self}  # as FastAPI's routes do; metrics and log name it
