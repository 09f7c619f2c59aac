"""`POST /v1/embeddings`, `/tokenize` and `/detokenize`: what the engine answers at once."""

import asyncio
import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.api.chat import conversation
from vicuna_server.api.counting import tally_of
from vicuna_server.api.generation import Answerer
from vicuna_server.asgi.openapi import operation
from vicuna_server.asgi.sse import while_connected
from vicuna_server.errors import RequestError
from vicuna_server.protocol.answer_size import check_vectors
from vicuna_server.protocol.counts import Used
from vicuna_server.protocol.embeddings import EmbeddingList, EmbeddingRequest, embedding_list
from vicuna_server.protocol.envelope import usage
from vicuna_server.protocol.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

__all__ = ["router"]

_OTHER_TOKENIZER = (
    "input: token ids are not accepted, since clients that send them have cut the text with another model's tokenizer; "
    "send the text (LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False), or serve with --accept-token-ids"
)


def router(answerer: Answerer) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.post("/v1/embeddings", openapi_extra=operation(EmbeddingRequest, EmbeddingList))
    async def embeddings(request: Request) -> Response:
        """Turn texts into vectors of length 1: the mean of the model's last hidden states."""
        body = await answerer.read(request, EmbeddingRequest)
        answerer.check(body)
        if not answerer.settings.accepts_token_ids and any(isinstance(one, tuple) for one in body.inputs):
            raise RequestError(_OTHER_TOKENIZER, param="input", code="token_ids_not_accepted")
        encoding_format = body.encoding_format or "float"
        check_vectors(len(body.inputs), answerer.engine.embedding_size, encoding_format)
        embedding = answerer.engine.embed(body.inputs, answerer.scope(request))
        embedded = await while_connected(request.receive, embedding)
        tokens = sum(one.tokens for one in embedded)
        request.state.note["usage"] = usage(tokens, 0)
        tally = tally_of(request)
        tally.expect()
        tally.add(Used(tokens))
        vectors = (one.vector for one in embedded)
        answer = embedding_list(answerer.settings.served_name, vectors, tokens, encoding_format)
        # Millions of numbers take seconds to write down: not on the event loop, and not in one go.
        return Response(await asyncio.to_thread(_written, answer), media_type="application/json")

    @routes.post("/tokenize", openapi_extra=operation(TokenizeRequest, Tokenized))
    async def tokenize(request: Request) -> Response:
        """Return the token ids of a text, or of a conversation as the model reads it."""
        body = await answerer.read(request, TokenizeRequest)
        answerer.check(body)
        prompt = body.prompt if body.messages is None else conversation(body.messages)
        ids = await answerer.engine.tokenize(prompt or "", add_special_tokens=body.add_special_tokens is not False)
        tokens: Tokenized = {"count": len(ids), "max_model_len": answerer.engine.context_length, "tokens": ids}
        return JSONResponse(tokens)

    @routes.post("/detokenize", openapi_extra=operation(DetokenizeRequest, Detokenized))
    async def detokenize(request: Request) -> Response:
        """Return the text of token ids."""
        body = await answerer.read(request, DetokenizeRequest)
        answerer.check(body)
        text: Detokenized = {"prompt": await answerer.engine.detokenize(body.tokens)}
        return JSONResponse(text)

    return routes


def _written(answer: EmbeddingList) -> bytes:
    data = ",".join(json.dumps(one, separators=(",", ":")) for one in answer["data"])
    rest = json.dumps({name: value for name, value in answer.items() if name != "data"})
    return f'{rest[:-1]}, "data": [{data}]}}'.encode()
