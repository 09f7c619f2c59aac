"""Which models a name in a request means, for a key that may use them. Pure.

An id, `namespace/servedName`, always means the model that has it. A served name alone means a model in a namespace that
the key names: its `defaultNamespace`, else the namespaces that its patterns name without a wildcard. So a model of
another namespace can neither take over a name nor make it ambiguous.

A gateway may serve several namespaces. Then a served name that reads as an id of another one (`lmsys/vicuna-13b`) means
no model, whether or not that id exists.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vicuna_contract.names import NAMESPACE
from vicuna_server.gateway.keys import Key
from vicuna_server.gateway.model import Model

__all__ = ["Found", "find"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a name means.

    Attributes:
        models: none, one, or several (ambiguous).
        across: found among all namespaces, for a key that names none. That ends with the next release.
        by_id_alone: if none was found, the usable models whose served name reads as an id of another namespace.
    """

    models: tuple[Model, ...] = ()
    across: bool = False
    by_id_alone: tuple[Model, ...] = ()


def find(asked: str, key: Key, ids: Iterable[Model], served: Iterable[Model], *, several: bool) -> Found:
    """Find the models that a name means.

    Args:
        asked: the name in the request.
        key: whose request it is.
        ids: models of this id.
        served: models of this served name.
        several: whether the gateway may serve models of several namespaces.
    """
    if exact := _usable(ids, key):
        return Found(exact)
    usable = _usable(served, key)
    called = tuple(model for model in usable if not (several and _reads_as_other_id(asked, model)))
    if meant := _meant(called, key):
        return Found(meant, across=several and not key.names_namespaces)
    return Found(by_id_alone=_meant(usable, key))


def _usable(models: Iterable[Model], key: Key) -> tuple[Model, ...]:
    return tuple(model for model in models if key.may_use(model.id))


def _meant(models: tuple[Model, ...], key: Key) -> tuple[Model, ...]:
    """Return the models of the namespaces that the key names; all of them if it names none."""
    if not key.names_namespaces:
        return models
    return _of(models, {key.default_namespace}) or _of(models, key.namespaces)


def _of(models: tuple[Model, ...], namespaces: Collection[str | None]) -> tuple[Model, ...]:
    return tuple(model for model in models if model.namespace in namespaces)


def _reads_as_other_id(asked: str, model: Model) -> bool:
    """Whether a served name reads as an id in another namespace, whether or not that id exists.

    The part before the slash must be a valid name of a namespace, which `LMSys` is not.
    """
    namespace, slash, _ = asked.partition("/")
    return bool(slash) and namespace != model.namespace and NAMESPACE.fullmatch(namespace) is not None
