"""The models behind the gateway and their endpoints, found by the name that a request gives."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vicuna_server.errors import RequestError
from vicuna_server.protocol.quoting import quoted

__all__ = ["Catalogue", "Endpoint", "Model"]

MaySee = Callable[[str], bool]
"""Whether a key may use the model of this id."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server of a model that is ready and not about to stop; `url` has scheme, host and port."""

    url: str


@dataclass(frozen=True, slots=True)
class Model:
    """One model as people and requests know it.

    Attributes:
        namespace: where it lives; empty for a model that was named on the command line.
        name: of the VicunaModel and of its Service.
        served_name: the model's name in its own server's API.
        created: seconds since the epoch.
        reason: why it is not ready, in CamelCase; empty when nothing was said.
        message: the same for people.
        max_stream_seconds: the longest answer its servers give.
    """

    namespace: str
    name: str
    served_name: str
    created: int = 0
    reason: str = ""
    message: str = ""
    max_stream_seconds: float = 600.0

    @property
    def id(self) -> str:
        """The name that is unique behind this gateway."""
        return f"{self.namespace}/{self.served_name}" if self.namespace else self.served_name

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)


class Catalogue:
    """What is known at this moment; written by watches, read by requests, all in one thread."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], Model] = {}
        self._slices: dict[tuple[str, str], dict[str, tuple[Endpoint, ...]]] = {}

    def put(self, model: Model) -> None:
        """Learn of a model, or what is new of it."""
        self._models[model.key] = model

    def remove(self, key: tuple[str, str]) -> None:
        """Learn that a model is gone."""
        self._models.pop(key, None)

    def known(self) -> set[tuple[str, str]]:
        """Return the namespace and name of every model."""
        return set(self._models)

    def put_endpoints(self, key: tuple[str, str], part: str, endpoints: Iterable[Endpoint]) -> None:
        """Learn the ready endpoints that one part, an EndpointSlice, lists for a model; none: the part is gone."""
        parts = self._slices.setdefault(key, {})
        parts[part] = tuple(endpoints)
        if not parts[part]:
            del parts[part]
        if not parts:
            del self._slices[key]

    def parts(self) -> set[tuple[tuple[str, str], str]]:
        """Return every (model's key, part) that has endpoints."""
        return {(key, part) for key, parts in self._slices.items() for part in parts}

    def endpoints(self, model: Model) -> tuple[Endpoint, ...]:
        """Return the endpoints that may get the next request."""
        parts = self._slices.get(model.key, {})
        return tuple(dict.fromkeys(endpoint for part in parts.values() for endpoint in part))

    def visible(self, may_see: MaySee) -> list[Model]:
        """Return the models a key may use, by id."""
        return sorted((model for model in self._models.values() if may_see(model.id)), key=lambda model: model.id)

    def resolve(self, asked: str, may_see: MaySee) -> Model:
        """Return the model of an id, or of a served name that only one visible model has.

        Raises:
            RequestError: 404 `model_not_found`, also for what the key may not see; `model_ambiguous`.
        """
        seen = self.visible(may_see)
        found = [model for model in seen if model.id == asked]
        found = found or [model for model in seen if model.served_name == asked]
        if len(found) == 1:
            return found[0]
        shown = quoted(asked)
        if not found:
            raise RequestError(
                f"the model {shown} does not exist, or this key may not use it; GET /v1/models lists what there is",
                status=404,
                param="model",
                code="model_not_found",
            )
        message = f"{len(found)} models are called {shown}; {_choices(found)}"
        raise RequestError(message, status=404, param="model", code="model_ambiguous")


def _choices(found: Iterable[Model]) -> str:
    """Say how to tell models of one name apart."""
    ids = list(dict.fromkeys(model.id for model in found))
    if len(ids) == 1:  # two objects of one namespace claim the same name
        return f"give the VicunaModels {', '.join(model.name for model in found)} a servedName each"
    return f"name one of {', '.join(ids)}"
