"""The response object of `/v1/responses`, with the parameters of its request."""

from typing import Any, Literal

from typing_extensions import TypedDict

from vicuna_server.protocol.envelope import Envelope, PromptTokensDetails, Usage
from vicuna_server.protocol.responses.output_items import Item, OutputItem
from vicuna_server.protocol.responses.request import ResponsesRequest

__all__ = [
    "DeletedResponse",
    "ItemList",
    "ResponseError",
    "ResponseObject",
    "ResponseUsage",
    "Status",
    "deleted_response",
    "item_list",
    "response_object",
    "response_usage",
]

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class InputTokensDetails(PromptTokensDetails):
    """How many of the prompt's tokens came from the prefix cache; writing to it is not counted."""

    cache_write_tokens: int


class OutputTokensDetails(TypedDict):
    """How many of the generated tokens are reasoning."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """The token counts."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(TypedDict):
    """Why a response is incomplete: it has as many tokens as it may have, or took as long as it may take."""

    reason: Literal["max_output_tokens"]


class ResponseError(TypedDict):
    """Why a response has failed."""

    code: str
    message: str


class ResponseObject(TypedDict):
    """The response. `usage` comes last: the gateway looks for it at the end."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[OutputItem]
    tools: list[dict[str, Any]]
    tool_choice: Any
    parallel_tool_calls: bool
    text: dict[str, Any]
    reasoning: dict[str, Any]
    truncation: Literal["auto", "disabled"]
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: str
    metadata: dict[str, str]
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    usage: ResponseUsage | None


class ItemList(TypedDict):
    """A page of items."""

    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(TypedDict):
    """What a deletion returns."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


def response_object(envelope: Envelope, body: ResponsesRequest, *, store: bool) -> ResponseObject:
    """Return a response that has just begun.

    Args:
        envelope: its id, model and time.
        body: the request, whose parameters are told again.
        store: whether it is kept.
    """
    return {
        "id": envelope.ident,
        "object": "response",
        "created_at": envelope.created,
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": envelope.model,
        "previous_response_id": body.previous_response_id,
        "instructions": body.instructions,
        "output": [],
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "tool_choice": _tool_choice(body),
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": _text(body),
        "reasoning": {"effort": None, "summary": None, **(body.reasoning or {})},
        "truncation": body.truncation or "disabled",
        **_sampling(body),
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "store": store,
        "background": False,
        "service_tier": "flex" if body.flex else "default",
        "metadata": body.metadata or {},
        "user": body.user,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "usage": None,
    }


class _Sampling(TypedDict):
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int


def _sampling(body: ResponsesRequest) -> _Sampling:
    return {
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "top_logprobs": body.top_logprobs or 0,
    }


def response_usage(counts: Usage, reasoning_tokens: int) -> ResponseUsage:
    """Return the counts under this route's names; `reasoning_tokens` are among the generated ones."""
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {**counts["prompt_tokens_details"], "cache_write_tokens": 0},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": counts["total_tokens"],
    }


def item_list(items: list[Item], *, has_more: bool) -> ItemList:
    """Return a page of items."""
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more}


def deleted_response(ident: str) -> DeletedResponse:
    """Return what a deletion returns."""
    return {"id": ident, "object": "response", "deleted": True}


def _tool_choice(body: ResponsesRequest) -> Any:
    choice = "auto" if body.tool_choice is None else body.tool_choice
    return choice if isinstance(choice, str) else choice.model_dump()


def _text(body: ResponsesRequest) -> dict[str, Any]:
    said = body.text.model_dump(by_alias=True, exclude_none=True) if body.text is not None else {}
    return {**said, "format": said.get("format", {"type": "text"})}
