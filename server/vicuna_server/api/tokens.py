"""`POST /tokenize` and `/detokenize`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vicuna_server.api.conversation import conversation, tools_of
from vicuna_server.api.generation import GenerationService
from vicuna_server.asgi.openapi import operation
from vicuna_server.protocol.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

__all__ = ["router"]


def router(service: GenerationService) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.post("/tokenize", openapi_extra=operation(TokenizeRequest, Tokenized))
    async def tokenize(request: Request) -> Response:
        """Return the token ids of a text, or of a conversation in the model's chat template."""
        body = await service.read(request, TokenizeRequest)
        service.check(body)
        tools = tools_of([tool.function for tool in body.tools or ()])
        variables = body.chat_template_kwargs or {}
        prompt = body.prompt if body.messages is None else conversation(body.messages, tools, variables)
        ids = await service.engine.tokenize(prompt or "", add_special_tokens=body.add_special_tokens is not False)
        tokens: Tokenized = {"count": len(ids), "max_model_len": service.engine.context_length, "tokens": ids}
        return JSONResponse(tokens)

    @routes.post("/detokenize", openapi_extra=operation(DetokenizeRequest, Detokenized))
    async def detokenize(request: Request) -> Response:
        """Return the text of token ids."""
        body = await service.read(request, DetokenizeRequest)
        service.check(body)
        text: Detokenized = {"prompt": await service.engine.detokenize(body.tokens)}
        return JSONResponse(text)

    return routes
