"""`/v1/models`: the one model of this server."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from vicuna_server.errors import RequestError
from vicuna_server.protocol.quoting import quoted

__all__ = [
    "Capabilities",
    "ModelAbilities",
    "ModelList",
    "ModelObject",
    "model_list",
    "model_not_found",
    "model_object",
]


class Capabilities(TypedDict):
    """What the model can be asked for.

    `tools` is `native` where its chat template renders them, `generic` where they are described as text, and null where
    it has no chat template; `tool_format` is how its calls are written.
    """

    chat: bool
    completions: bool
    embeddings: bool
    tools: Literal["native", "generic"] | None
    tool_format: str | None
    reasoning: bool


class ModelAbilities(TypedDict):
    """What is known of the model once it is loaded; `max_model_len` is its context in tokens, as vLLM calls it."""

    max_model_len: int
    capabilities: Capabilities


class ModelObject(TypedDict):
    """One entry of the list; the last two once the model is loaded."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: NotRequired[int]
    capabilities: NotRequired[Capabilities]


class ModelList(TypedDict):
    """OpenAI's list object."""

    object: Literal["list"]
    data: list[ModelObject]


def model_object(name: str, created: int, abilities: ModelAbilities | None = None) -> ModelObject:
    """Return one entry of the list; without abilities the model is not loaded yet."""
    model: ModelObject = {"id": name, "object": "model", "created": created, "owned_by": "vicuna-operator"}
    return model if abilities is None else {**model, **abilities}


def model_list(model: ModelObject) -> ModelList:
    """Return OpenAI's list object with the served model in it."""
    return {"object": "list", "data": [model]}


def model_not_found(name: str, served_name: str) -> RequestError:
    """Return the 404 for a model's name that is not the served model's."""
    return RequestError(
        f"the model {quoted(name)} does not exist on this server; send {served_name!r} as model",
        status=404,
        param="model",
        code="model_not_found",
    )
