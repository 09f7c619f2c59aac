"""`/v1/models`: the one model of this server."""

__all__ = ["model_list", "model_object"]


def model_object(name: str, created: int) -> dict[str, object]:
    """Return one entry of the list."""
    return {"id": name, "object": "model", "created": created, "owned_by": "vicuna-operator"}


def model_list(name: str, created: int) -> dict[str, object]:
    """Return OpenAI's list object with the served model in it."""
    return {"object": "list", "data": [model_object(name, created)]}
