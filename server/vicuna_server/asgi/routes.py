"""The paths of an application and their methods, read from its OpenAPI document."""

import re

from fastapi import FastAPI

from vicuna_server.page import PAGE_PATHS

__all__ = ["methods_of", "paths_of"]


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
