"""`/v1/chat/completions`: the response, whole or in chunks.

Source: OpenAI's API reference, "The chat completion object" and "The chat completion chunk object".
"""

from collections.abc import Sequence
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from vicuna_server.protocol.envelope import Envelope, PromptLogprob, Usage

__all__ = [
    "ChatChoice",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "ChatDelta",
    "ChatLogprob",
    "ChatLogprobs",
    "FunctionCall",
    "FunctionCallDelta",
    "ToolCall",
    "ToolCallDelta",
    "TopChatLogprob",
    "chat_choice",
    "chat_chunk",
    "chat_completion",
    "chat_usage_chunk",
]


class TopChatLogprob(TypedDict):
    """A token with its log probability. `bytes` is its UTF-8 text, also where it is a part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TopChatLogprob):
    """A token of the completion, with its likeliest alternatives."""

    top_logprobs: list[TopChatLogprob]


class ChatLogprobs(TypedDict):
    """The log probabilities of a choice or chunk."""

    content: list[ChatLogprob]
    refusal: None


class FunctionCall(TypedDict):
    """The function's name, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class ChatCompletionMessage(TypedDict):
    """The assistant's message. `content` is null where it has calls alone; `reasoning` has two names in use."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning: NotRequired[str]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[FunctionCall]


class ChatChoice(TypedDict):
    """One of the `n` completions."""

    index: int
    message: ChatCompletionMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(TypedDict):
    """The response to a request without `stream`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: NotRequired[list[dict[str, PromptLogprob] | None]]


class FunctionCallDelta(TypedDict):
    """What a chunk adds to a function's name and arguments."""

    name: NotRequired[str]
    arguments: str


class ToolCallDelta(TypedDict):
    """What a chunk adds to a call; `id`, `type` and the name come first."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionCallDelta


class ChatDelta(TypedDict):
    """What a chunk adds to the message."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    reasoning: NotRequired[str]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallDelta]]
    function_call: NotRequired[FunctionCallDelta]


class ChatChunkChoice(TypedDict):
    """A part of one choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatCompletionChunk(TypedDict):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[Usage | None]


def chat_choice(
    index: int, message: ChatCompletionMessage, finish_reason: str, logprobs: ChatLogprobs | None
) -> ChatChoice:
    """Return one complete choice."""
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


def chat_completion(envelope: Envelope, choices: Sequence[ChatChoice], usage: Usage) -> ChatCompletion:
    """Return the response to a request without `stream`."""
    return {
        "id": envelope.ident,
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
        "choices": list(choices),
        "usage": usage,
    }


def chat_chunk(
    envelope: Envelope,
    index: int,
    delta: ChatDelta,
    *,
    logprobs: ChatLogprobs | None = None,
    finish_reason: str | None = None,
    include_usage: bool = False,
) -> ChatCompletionChunk:
    """Return an event with a part of a choice; `include_usage`: with `usage` null, as OpenAI does before the end."""
    choice: ChatChunkChoice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    chunk = _chunk(envelope, [choice])
    return {**chunk, "usage": None} if include_usage else chunk


def chat_usage_chunk(envelope: Envelope, usage: Usage) -> ChatCompletionChunk:
    """Return the last event of a stream with `include_usage`: no choices, only the counts."""
    return {**_chunk(envelope, []), "usage": usage}


def _chunk(envelope: Envelope, choices: list[ChatChunkChoice]) -> ChatCompletionChunk:
    return {
        "id": envelope.ident,
        "object": "chat.completion.chunk",
        "created": envelope.created,
        "model": envelope.model,
        "choices": choices,
    }
