"""Finds the model that a request names, and warns where the name will stop working with the next release."""

import logging

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vicuna_contract.names import WARNING_HEADER
from vicuna_server.gateway.catalogue import Catalogue
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.model import Model

__all__ = ["Resolver", "Warnings"]

logger = logging.getLogger(__name__)

_STATE = "warning"
_MOST_WARNINGS = 1000


class Resolver:
    """Finds models for requests.

    Args:
        catalogue: the models there are.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._warned: set[tuple[str, str]] = set()

    def model(self, request: Request, asked: str) -> Model:
        """Return the model that a name means for the request's key.

        Raises:
            RequestError: as `Catalogue.resolve`.
        """
        key: Key = request.state.key
        found = self._catalogue.resolve(asked, key)
        (model,) = found.models
        if found.across:
            setattr(request.state, _STATE, _warning(model))
            self._warn(key.name, asked, model)
        return model

    def _warn(self, key: str, asked: str, model: Model) -> None:
        """Log the warning once for each key and name, up to `_MOST_WARNINGS`."""
        if (key, asked) in self._warned or len(self._warned) >= _MOST_WARNINGS:
            return
        self._warned.add((key, asked))
        logger.warning("the key %r asks for %r: %s", key, asked, _warning(model))


class Warnings:
    """Adds the warning of `Resolver` to the head of a response. Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out one request."""
        state = scope.setdefault("state", {})

        async def warning(message: Message) -> None:
            if message["type"] == "http.response.start" and _STATE in state:
                MutableHeaders(scope=message)[WARNING_HEADER] = state[_STATE]
            await send(message)

        await self._app(scope, receive, warning)


def _warning(model: Model) -> str:
    """Return one line of printable ASCII, whatever the model's name."""
    ident = "".join(letter if " " < letter <= "~" else "?" for letter in model.id)
    return (
        f"a served name alone will not be found across namespaces after the next release; ask for {ident}, or give "
        "the key a defaultNamespace"
    )
