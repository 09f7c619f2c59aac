"""Items of a response's `output`, and of the list of its input, as JSON objects."""

from typing import Literal

from typing_extensions import TypedDict

from vicuna_server.protocol.chat_completion import ChatLogprob

__all__ = [
    "FunctionCallOutput",
    "InputMessage",
    "InputText",
    "Item",
    "ItemStatus",
    "OutputFunctionCall",
    "OutputItem",
    "OutputMessage",
    "OutputReasoning",
    "OutputText",
    "ReasoningContent",
    "function_call",
    "output_message",
    "output_text",
    "reasoning_item",
]

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(TypedDict):
    """The text of a message. The log probabilities have the form that chats have; empty where not asked for."""

    type: Literal["output_text"]
    text: str
    annotations: list[object]
    logprobs: list[ChatLogprob]


class OutputMessage(TypedDict):
    """A message of the model."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputText]


class ReasoningContent(TypedDict):
    """What the model has thought."""

    type: Literal["reasoning_text"]
    text: str


class OutputReasoning(TypedDict):
    """What the model has thought before it answered, whole: there is no summary of it."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[object]
    content: list[ReasoningContent]
    encrypted_content: None


class OutputFunctionCall(TypedDict):
    """A call of a function; `arguments` is JSON text."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class InputText(TypedDict):
    """A part of a user's message."""

    type: Literal["input_text"]
    text: str


class InputMessage(TypedDict):
    """A message that is not the model's."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["user", "system", "developer"]
    content: list[InputText]


class FunctionCallOutput(TypedDict):
    """The result of a call."""

    id: str
    type: Literal["function_call_output"]
    status: ItemStatus
    call_id: str
    output: str


OutputItem = OutputMessage | OutputReasoning | OutputFunctionCall
Item = OutputItem | InputMessage | FunctionCallOutput


def output_text(text: str, logprobs: list[ChatLogprob]) -> OutputText:
    """Return the text of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def output_message(ident: str, status: ItemStatus, content: list[OutputText]) -> OutputMessage:
    """Return a message of the model."""
    return {"id": ident, "type": "message", "status": status, "role": "assistant", "content": content}


def reasoning_item(ident: str, status: ItemStatus, content: list[ReasoningContent]) -> OutputReasoning:
    """Return what the model has thought."""
    return {
        "id": ident,
        "type": "reasoning",
        "status": status,
        "summary": [],
        "content": content,
        "encrypted_content": None,
    }


def function_call(ident: str, status: ItemStatus, call_id: str, name: str, arguments: str) -> OutputFunctionCall:
    """Return a call."""
    return {
        "id": ident,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
