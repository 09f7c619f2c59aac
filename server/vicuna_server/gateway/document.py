"""The types of the gateway's OpenAPI document: what the gateway itself reads and returns."""

from typing import Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from vicuna_server.gateway.abilities import Abilities
from vicuna_server.gateway.catalogue import Model
from vicuna_server.protocol.models import Capabilities

__all__ = ["Answer", "Body", "ModelList", "ModelObject", "State", "model_object", "state_of"]

State = Literal["ready", "not ready", "asleep", "waking"]
"""Of a model: asleep has no server, and the next request starts one; waking waits for one that starts."""
_ASLEEP, _STARTING = "Asleep", "Starting"  # reasons of a VicunaModel's condition Ready


class Body(BaseModel):
    """A request's body, of which the gateway reads these fields and passes on all."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, description="id of a model, or a served name in a namespace of the key")
    stream: bool | None = Field(default=None, description="whether server-sent events are asked for")


class Answer(TypedDict):
    """A response of a model's server, passed on unchanged; that server's document describes it."""

    object: str


class ModelObject(TypedDict):
    """OpenAI's model object, with the state of the model; the last two where a ready server has told them."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    status: State
    reason: str
    message: str
    max_model_len: NotRequired[int]
    capabilities: NotRequired[Capabilities]


class ModelList(TypedDict):
    """OpenAI's list object."""

    object: Literal["list"]
    data: list[ModelObject]


def state_of(model: Model, *, ready: bool, held: int) -> State:
    """Return a model's state.

    Args:
        model: whose state it is.
        ready: whether a server is ready.
        held: requests that wait until one is.
    """
    if ready:
        return "ready"
    if model.autoscaled and model.may_come:
        if held or model.reason == _STARTING:
            return "waking"
        if model.reason == _ASLEEP:
            return "asleep"
    return "not ready"


def model_object(model: Model, abilities: Abilities, state: State) -> ModelObject:
    """Return a model's entry; reason and message are those of its VicunaModel, empty when it is ready."""
    entry: ModelObject = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "vicuna-operator",
        "status": state,
        "reason": model.reason,
        "message": model.message,
    }
    if abilities.max_model_len is not None:
        entry["max_model_len"] = abilities.max_model_len
    if abilities.capabilities is not None:
        entry["capabilities"] = abilities.capabilities
    return entry
