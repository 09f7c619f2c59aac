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
        return f"the base URL of the client ends with {_V1} already, and {_V1} was added again: it is {once}"
    if f"{_V1}{once}" in routes:
        return f"the API is under {_V1}: it is {_V1}{once}, and the base URL of a client ends with {_V1}"
    if once in routes:
        return f"it is {once}, written exactly so"
    if bare in (_V1, "/"):
        return f"the API is under {_V1}, {_V1}/models for example"
    if once.startswith(("/v1/", "/api/")):
        api = sorted(route for route in routes if route.startswith(f"{_V1}/") and "{" not in route)
        return f"what there is: {', '.join(api)}"
    return ""
