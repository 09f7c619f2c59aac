"""From a request to the model it means; the body is changed only where it gives the model's long name."""

import json
import time
from dataclasses import dataclass

from starlette.requests import Request

from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.gateway.catalogue import Model
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.proxy import Forward
from vicuna_server.gateway.refusals import mark_forwarded
from vicuna_server.gateway.resolving import Resolver
from vicuna_server.gateway.salts import with_salt
from vicuna_server.gateway.upstream import Outgoing, Upstream, request_headers
from vicuna_server.http.body import read_bytes
from vicuna_server.http.request_id import request_id

__all__ = ["Router"]


@dataclass(frozen=True, slots=True)
class Router:
    """Finds who answers a request."""

    resolver: Resolver
    upstream: Upstream

    async def forward(self, request: Request) -> Forward:
        """Return the answer to a POST, to be carried out.

        Raises:
            RequestError: 400, 404, 408, 413; OverloadedError 503 when too many are under way.
        """
        arrived = time.monotonic()
        settings = self.upstream.settings
        if self.upstream.balancer.under_way >= settings.max_requests:
            raise OverloadedError(
                f"the gateway has {settings.max_requests} requests under way and takes no more; try again", status=503
            )
        body = await read_bytes(request, settings.max_body_bytes, settings.body_seconds)
        fields = _parse(body)
        key: Key = request.state.key
        model = self.resolver.model(request, _model_name(fields))
        ident = request_id(request.headers.get("x-request-id", ""))
        outgoing = Outgoing(
            path=request.url.path,
            body=_named(body, fields, model),
            headers=with_salt(request_headers(request.headers.raw, ident), key, model),
            request_id=ident,
            streams=fields.get("stream") is True,
            key=key.name,
            arrived=arrived,
        )
        mark_forwarded(request)
        return Forward(self.upstream, model, outgoing)


def _parse(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the body is not valid JSON", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise RequestError("the body is no JSON object", code="invalid_value")
    return fields


def _model_name(fields: dict[str, object]) -> str:
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        raise RequestError(
            "model: give the name of a model; GET /v1/models lists them", param="model", code="invalid_value"
        )
    return name


def _named(body: bytes, fields: dict[str, object], model: Model) -> bytes:
    """Return the body with the name by which the model's own server knows it."""
    if fields["model"] == model.served_name:
        return body
    return json.dumps({**fields, "model": model.served_name}, separators=(",", ":")).encode()
