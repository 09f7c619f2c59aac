"""`POST /v1/embeddings`."""

import asyncio
import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from vicuna_server.api.counting import counts_of
from vicuna_server.api.generation import GenerationService
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import while_connected
from vicuna_server.errors import RequestError
from vicuna_server.protocol.counts import Used
from vicuna_server.protocol.embeddings import EmbeddingList, EmbeddingRequest, embedding_list
from vicuna_server.protocol.envelope import usage
from vicuna_server.protocol.response_size import check_vectors

__all__ = ["router"]

_OTHER_TOKENIZER = (
    "input: token ids are not accepted, since clients that send them have cut the text with another model's tokenizer; "
    "send the text (LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False), or serve with --accept-token-ids"
)


def router(service: GenerationService) -> APIRouter:
    """Return the route."""
    routes = APIRouter()

    @routes.post("/v1/embeddings", openapi_extra=operation(EmbeddingRequest, EmbeddingList))
    async def embeddings(request: Request) -> Response:
        """Turn texts into vectors of length 1: the mean of the model's last hidden states."""
        body = await service.read(request, EmbeddingRequest)
        service.check(body)
        if not service.settings.accepts_token_ids and any(isinstance(one, tuple) for one in body.inputs):
            raise RequestError(_OTHER_TOKENIZER, param="input", code="token_ids_not_accepted")
        encoding_format = body.encoding_format or "float"
        check_vectors(len(body.inputs), service.engine.embedding_size, encoding_format)
        embedding = service.engine.embed(body.inputs, service.scope(request))
        embedded = await while_connected(request.receive, embedding)
        tokens = sum(one.tokens for one in embedded)
        request.state.note["usage"] = usage(tokens, 0)
        counts = counts_of(request)
        counts.expect()
        counts.add(Used(tokens))
        vectors = (one.vector for one in embedded)
        response = embedding_list(service.settings.served_name, vectors, tokens, encoding_format)
        # Millions of numbers take seconds to encode: not on the event loop, and in small steps (see `_encoded`).
        return Response(await asyncio.to_thread(_encoded, response), media_type="application/json")

    return routes


def _encoded(response: EmbeddingList) -> bytes:
    """Return the JSON text; encoded vector by vector, so that other threads can run in between."""
    data = ",".join(json.dumps(one, separators=(",", ":")) for one in response["data"])
    rest = json.dumps({name: value for name, value in response.items() if name != "data"})
    return f'{rest[:-1]}, "data": [{data}]}}'.encode()
