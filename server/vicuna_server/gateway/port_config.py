"""Uvicorn's settings of one port of the gateway."""

from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from vicuna_server.gateway.connection_limits import ConnectionLimits

__all__ = ["PortConfig"]


class PortConfig(uvicorn.Config):
    """Uvicorn's settings, and those of the port.

    Attributes:
        limits: of its connections.
        on_refused: called with the status of a refusal that came before a request.
        has_valid_key: whether a complete head has a valid key; always true where no keys are used.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: ConnectionLimits,
        on_refused: Callable[[int], None],
        has_valid_key: Callable[[bytes], bool],
        **settings: Any,
    ) -> None:
        super().__init__(app, **settings)
        self.limits = limits
        self.on_refused = on_refused
        self.has_valid_key = has_valid_key
