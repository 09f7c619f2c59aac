"""What a port of the gateway is served by."""

from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from vicuna_server.gateway.doors import Doors

__all__ = ["BoundedConfig"]


class BoundedConfig(uvicorn.Config):
    """Uvicorn's settings, and those of the port.

    Attributes:
        doors: know its connections.
        refused: told the status of what never became a request.
        knows: whether what has come of a request, its head whole, has a key that opens something; always, without keys.
    """

    def __init__(
        self,
        app: ASGIApp,
        doors: Doors,
        refused: Callable[[int], None],
        knows: Callable[[bytes], bool],
        **settings: Any,
    ) -> None:
        super().__init__(app, **settings)
        self.doors = doors
        self.refused = refused
        self.knows = knows
