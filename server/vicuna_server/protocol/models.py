"""`/v1/models`: the one model of this server."""

from typing import Literal

from typing_extensions import TypedDict

__all__ = ["ModelList", "ModelObject", "model_list", "model_object"]


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
