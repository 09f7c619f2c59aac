"""Items of a request's `input`: messages, calls of functions and their results, reasoning."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, TypeAdapter

from vicuna_server.protocol.body import RequestPart
from vicuna_server.protocol.responses.content import Content, Parts

__all__ = [
    "MAX_ITEMS",
    "FunctionCallItem",
    "FunctionCallOutputItem",
    "InputItem",
    "Item",
    "ItemReference",
    "Items",
    "MessageItem",
    "ReasoningItem",
    "parsed_items",
]

MAX_ITEMS = 2048
"""Of a request, together with those of the responses before it."""

Name = Annotated[str, Field(min_length=1, max_length=64)]
Ident = Annotated[str, Field(min_length=1, max_length=128)]


class MessageItem(RequestPart):
    """A message; `developer` is OpenAI's newer name for `system`."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class FunctionCallItem(RequestPart):
    """A call that a model has made."""

    type: Literal["function_call"]
    call_id: Ident
    name: Name
    arguments: str


class FunctionCallOutputItem(RequestPart):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: Ident
    output: Content


class ReasoningItem(RequestPart):
    """What a model has thought. Without its text, as other servers' encrypted reasoning, it says nothing here."""

    type: Literal["reasoning"]
    content: Parts | None = None
    summary: Parts | None = None


class ItemReference(RequestPart):
    """An item that the server keeps."""

    type: Literal["item_reference"] | None = None
    id: Ident


_TAGS = {
    "message": "a message",
    "function_call": "a function call",
    "function_call_output": "a function's output",
    "reasoning": "a reasoning",
    "item_reference": "a reference",
}
"""Names of the branches, with blanks: errors tell the path of an item's field, and branches are no part of it."""
_HOSTED = "_call"


def _kind(value: object) -> object:
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind is None:
        return "message" if "role" in value or "id" not in value else "item_reference"
    return kind


def _known(value: object) -> object:
    kind = _kind(value)
    if not isinstance(kind, str):
        raise ValueError("an item is an object with a type, or a message with a role; send such objects")
    if kind not in _TAGS:
        why = "it belongs to a built-in tool, and" if _HOSTED in kind else "it"
        raise ValueError(
            f"items of type {kind[:40]!r} are not supported: {why} means nothing to this model; leave it out, or send "
            f"what it says as a message ({', '.join(_TAGS)} are supported)"
        )
    return value


def _tag(value: object) -> str:
    return _TAGS[str(_kind(value))]


InputItem = Annotated[
    Annotated[MessageItem, Tag("a message")]
    | Annotated[FunctionCallItem, Tag("a function call")]
    | Annotated[FunctionCallOutputItem, Tag("a function's output")]
    | Annotated[ReasoningItem, Tag("a reasoning")]
    | Annotated[ItemReference, Tag("a reference")],
    Discriminator(_tag),
    BeforeValidator(_known),
]
Items = Annotated[list[InputItem], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
Item = MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem | ItemReference

_ITEM: TypeAdapter[Item] = TypeAdapter(InputItem)


def parsed_items(kept: list[dict[str, Any]]) -> list[Item]:
    """Return items that this server keeps, in the form in which a request has them."""
    return [_ITEM.validate_python(one) for one in kept]
