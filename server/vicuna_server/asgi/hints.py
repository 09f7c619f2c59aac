"""The message for a route that does not exist, with the route that the client probably meant."""

import re
from collections.abc import Collection

from vicuna_server.protocol.quoting import quoted

__all__ = ["no_route"]

_V1 = "/v1"


def no_route(method: str, path: str, routes: Collection[str]) -> str:
    """Return one sentence: this route does not exist, and which one does.

    Args:
        method: Of the request.
        path: Of the request; the message has only its beginning.
        routes: Paths that exist.
    """
    hint = _hint(path, routes)
    return f"the route {quoted(f'{method} {path}')} does not exist{f'; {hint}' if hint else ''}"


def _hint(path: str, routes: Collection[str]) -> str:
    bare = re.sub("/+", "/", f"/{path.strip('/')}")
    once = re.sub(rf"^({_V1})+", _V1, bare.lower())
    if once in routes and bare.lower() != once:
        return f"use {once}: the client's base URL ends with {_V1}, and {_V1} was added again"
    if f"{_V1}{once}" in routes:
        return f"use {_V1}{once}: the API is under {_V1}, so a client's base URL ends with {_V1}"
    if once in routes:
        return f"use {once}, written exactly like this"
    if bare in (_V1, "/"):
        return f"use a path under {_V1}, such as {_V1}/models"
    if once.startswith(("/v1/", "/api/")):
        api = sorted(route for route in routes if route.startswith(f"{_V1}/") and "{" not in route)
        return f"use one of {', '.join(api)}"
    return ""
