"""CORS: pages of other origins that may use the API from a browser.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from vicuna_contract.names import REVISION_HEADER, TRIMMED_HEADER

__all__ = ["with_origins"]

_SHOWN = (REVISION_HEADER, TRIMMED_HEADER, "x-request-id", "retry-after")
"""Response headers that such a page may read."""


def with_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Allow pages of these origins; `*` is any origin. Without origins, return the application unchanged.

    A page sends its API key in a header that it sets itself, so cookies are neither needed nor allowed.
    """
    if not origins:
        return app
    methods = ("GET", "HEAD", "POST", "DELETE")
    return CORSMiddleware(
        app, allow_origins=origins, allow_methods=methods, allow_headers=("*",), expose_headers=_SHOWN, max_age=3600
    )
