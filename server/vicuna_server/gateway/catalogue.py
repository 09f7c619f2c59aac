"""The models behind the gateway and their endpoints, found by the name that a request gives."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vicuna_server.errors import RequestError
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.names import Found, find
from vicuna_server.protocol.quoting import quoted

__all__ = ["Catalogue", "Endpoint", "Model"]

MaySee = Callable[[str], bool]
"""Whether a key may use the model of this id."""
_MOST_CHOICES = 10
_ByName = dict[str, dict[tuple[str, str], Model]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server of a model that is ready and not about to stop.

    Attributes:
        url: scheme, host and port.
        revision: whose pod it is; empty where the cluster does not say.
        replica: what ids of the responses that it keeps say of it; empty where its host's name is not known.
    """

    url: str
    revision: str = ""
    replica: str = field(default="", compare=False)


class Catalogue:
    """The present models and endpoints; written by watches, read by requests, all in one thread.

    Args:
        several: whether models of several namespaces can be in it.

    Attributes:
        listeners: called with a model's key after the model or its endpoints have changed.
    """

    def __init__(self, *, several: bool = False) -> None:
        self.listeners: list[Callable[[tuple[str, str]], None]] = []
        self._several = several
        self._models: dict[tuple[str, str], Model] = {}
        self._by_id: _ByName = {}
        self._by_served_name: _ByName = {}
        self._slices: dict[tuple[str, str], dict[str, tuple[Endpoint, ...]]] = {}

    def put(self, model: Model) -> None:
        """Add or update a model."""
        self._remove(model.key)
        self._models[model.key] = model
        self._by_id.setdefault(model.id, {})[model.key] = model
        self._by_served_name.setdefault(model.served_name, {})[model.key] = model
        self._changed(model.key)

    def remove(self, key: tuple[str, str]) -> None:
        """Remove a model."""
        self._remove(key)
        self._changed(key)

    def _remove(self, key: tuple[str, str]) -> None:
        model = self._models.pop(key, None)
        if model is not None:
            _forget(self._by_id, model.id, key)
            _forget(self._by_served_name, model.served_name, key)

    def _changed(self, key: tuple[str, str]) -> None:
        for listener in self.listeners:
            listener(key)

    def model(self, key: tuple[str, str]) -> Model | None:
        """Return the model of a namespace and name; None where there is none."""
        return self._models.get(key)

    def known(self) -> set[tuple[str, str]]:
        """Return the namespace and name of every model."""
        return set(self._models)

    def put_endpoints(self, key: tuple[str, str], part: str, endpoints: Iterable[Endpoint]) -> None:
        """Set the ready endpoints that one part, an EndpointSlice, lists for a model; none: the part is gone."""
        parts = self._slices.setdefault(key, {})
        parts[part] = tuple(endpoints)
        if not parts[part]:
            del parts[part]
        if not parts:
            del self._slices[key]
        self._changed(key)

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

    def resolve(self, asked: str, key: Key) -> Found:
        """Return the one model that a name means for a key, and how it was found (see `names`).

        Raises:
            RequestError: 404 `model_not_found`, also for what the key may not see; `model_ambiguous`.
        """
        ids = list(self._by_id.get(asked, {}).values())
        served = list(self._by_served_name.get(asked, {}).values())
        found = find(asked, key, ids, served, several=self._several)
        if len(found.models) == 1:
            return found
        shown = quoted(asked)
        if not found.models:
            raise RequestError(
                f"the model {shown} does not exist, or this key may not use it; {_instead(found.by_id_alone)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        message = f"{len(found.models)} models are called {shown}; {_choices(found.models)}"
        raise RequestError(message, status=404, param="model", code="model_ambiguous")


def _forget(models: _ByName, name: str, key: tuple[str, str]) -> None:
    del models[name][key]
    if not models[name]:
        del models[name]


def _choices(found: Iterable[Model]) -> str:
    """Say how to tell models of one name apart."""
    models = sorted(found, key=lambda model: (model.id, model.name))
    ids = list(dict.fromkeys(model.id for model in models))
    if len(ids) == 1:  # two objects of one namespace claim the same name
        return f"give the VicunaModels {_some([model.name for model in models])} a servedName each"
    return f"name one of {_some(ids)}"


def _instead(called: Iterable[Model]) -> str:
    """Say what to ask for; `called` have the served name, which reads as an id in another namespace."""
    ids = sorted({model.id for model in called})
    if not ids:
        return "GET /v1/models lists the models of this key"
    return f"it reads as an id of another namespace; ask for a model with such a servedName by its id: {_some(ids)}"


def _some(names: list[str]) -> str:
    rest = len(names) - _MOST_CHOICES
    return ", ".join(names[:_MOST_CHOICES]) + (f" and {rest} more" if rest > 0 else "")
