"""Which models a name in a request means, for a key that may use them. Pure.

An id, `namespace/servedName`, means the model that has it, always. A served name alone means a model of a namespace
that whoever made the key has named: of its `defaultNamespace`, else of those that its patterns name without a wildcard.
So nobody else's model can take a name's place nor make it ambiguous. Where several namespaces can be behind the
gateway, a served name that reads as an id of another one (`lmsys/vicuna-13b`) means nobody, that id being there or not.
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
        models: none, one, or several, which is ambiguous.
        across: found among all namespaces, for a key that names none: that ends with the next release.
        by_id_alone: where there is none, those that the key may use and whose served name reads as another's id.
    """

    models: tuple[Model, ...] = ()
    across: bool = False
    by_id_alone: tuple[Model, ...] = ()


def find(asked: str, key: Key, ids: Iterable[Model], served: Iterable[Model], *, several: bool) -> Found:
    """Find who is meant.

    Args:
        asked: the name in the request.
        key: whose request it is.
        ids: models of this id.
        served: models of this served name.
        several: whether models of several namespaces can be behind this gateway.
    """
    if exact := _usable(ids, key):
        return Found(exact)
    usable = _usable(served, key)
    called = tuple(model for model in usable if not (several and _could_be_anothers(asked, model)))
    if meant := _meant(called, key):
        return Found(meant, across=several and not key.names_namespaces)
    return Found(by_id_alone=_meant(usable, key))


def _usable(models: Iterable[Model], key: Key) -> tuple[Model, ...]:
    return tuple(model for model in models if key.may_use(model.id))


def _meant(models: tuple[Model, ...], key: Key) -> tuple[Model, ...]:
    """Return those of the namespaces that the key names; all of them where it names none."""
    if not key.names_namespaces:
        return models
    return _of(models, {key.default_namespace}) or _of(models, key.namespaces)


def _of(models: tuple[Model, ...], namespaces: Collection[str | None]) -> tuple[Model, ...]:
    return tuple(model for model in models if model.namespace in namespaces)


def _could_be_anothers(asked: str, model: Model) -> bool:
    """Whether a served name reads as an id in another namespace, that of a model that is there or is not.

    Any served name could follow a namespace's; what no namespace can be called, such as `LMSys`, makes no id.
    """
    namespace, slash, _ = asked.partition("/")
    return bool(slash) and namespace != model.namespace and NAMESPACE.fullmatch(namespace) is not None
