"""`/v1/models`: the one model of this server."""

from typing import Literal

from typing_extensions import TypedDict

from vicuna_server.errors import RequestError
from vicuna_server.protocol.quoting import quoted

__all__ = ["ModelList", "ModelObject", "model_list", "model_not_found", "model_object"]


class ModelObject(TypedDict):
    """One entry of the list."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """OpenAI's list object."""

    object: Literal["list"]
    data: list[ModelObject]


def model_object(name: str, created: int) -> ModelObject:
    """Return one entry of the list."""
    return {"id": name, "object": "model", "created": created, "owned_by": "vicuna-operator"}


def model_list(name: str, created: int) -> ModelList:
    """Return OpenAI's list object with the served model in it."""
    return {"object": "list", "data": [model_object(name, created)]}


def model_not_found(name: str, served_name: str) -> RequestError:
    """Return the 404 for a model's name that is not the served model's."""
    return RequestError(
        f"the model {quoted(name)} does not exist on this server; send {served_name!r} as model",
        status=404,
        param="model",
        code="model_not_found",
    )
