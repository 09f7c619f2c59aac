"""What a request continues: the kept responses that it names, and its own input."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from vicuna_server.api.responses.conversation import kept_item, messages_of
from vicuna_server.api.responses.store import ResponseStore, written
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message
from vicuna_server.protocol.quoting import quoted
from vicuna_server.protocol.responses.ids import response_not_found
from vicuna_server.protocol.responses.input_items import MAX_ITEMS, Item, ItemReference, MessageItem, parsed_items
from vicuna_server.protocol.responses.request import ResponsesRequest

__all__ = ["OpenedConversation", "nobody", "open_conversation", "refers_to_kept"]


@dataclass(frozen=True, slots=True)
class OpenedConversation:
    """A request's conversation.

    Attributes:
        messages: For the model.
        inputs: Its items as they are kept, each as JSON.
    """

    messages: tuple[Message, ...]
    inputs: tuple[bytes, ...]


def open_conversation(
    body: ResponsesRequest, caller: str, store: ResponseStore, new_id: Callable[[str], str]
) -> OpenedConversation:
    """Return the conversation that a request goes on with.

    Args:
        body: The request.
        caller: Whose it is; empty: not known, and nothing is kept for it.
        store: What is kept.
        new_id: Makes ids of items.

    Raises:
        RequestError: 400 or 404; it refers to what is not kept, has too many items, or they do not fit together.
    """
    history: tuple[bytes, ...] = ()
    if body.previous_response_id is not None:
        if not caller:
            raise nobody("previous_response_id", 400)
        kept = store.get(caller, body.previous_response_id)
        if kept is None:
            raise response_not_found("previous_response_id")
        history = kept.items
    given = body.input if isinstance(body.input, list) else [MessageItem(role="user", content=body.input)]
    if (count := len(history) + len(given)) > MAX_ITEMS:
        raise RequestError(
            f"input: the conversation has {count} items, and {MAX_ITEMS} at most are read; send its last turns as "
            "input, without previous_response_id",
            param="input",
            code="invalid_value",
        )
    own = [_resolved(item, caller, store) for item in given]
    items = [*parsed_items([json.loads(item) for item in history]), *own]
    inputs = (*history, *written(kept_item(item, new_id) for item in own))
    return OpenedConversation(messages_of(body.instructions, items), inputs)


def refers_to_kept(body: ResponsesRequest) -> bool:
    """Tell whether a request continues what one server alone keeps."""
    items = body.input if isinstance(body.input, list) else []
    return body.previous_response_id is not None or any(isinstance(item, ItemReference) for item in items)


def nobody(field: str, status: int) -> RequestError:
    """Return the error for a caller for whom nothing is kept.

    Args:
        field: what needs kept responses.
        status: of the response.
    """
    return RequestError(
        f"{field}: nothing is kept for requests without an API key, since anybody could read it; send requests through "
        "the gateway with a key, or the whole conversation as input",
        status=status,
        param=field,
        code="responses_not_kept",
    )


def _resolved(item: Item, caller: str, store: ResponseStore) -> Item:
    if not isinstance(item, ItemReference):
        return item
    kept = store.item(caller, item.id)
    if kept is None:
        raise RequestError(
            f"input: no item {quoted(item.id)} is kept for this API key; send the item itself (clients do so with "
            "store: false)",
            status=404,
            param="input",
            code="item_not_found",
        )
    return parsed_items([kept])[0]
