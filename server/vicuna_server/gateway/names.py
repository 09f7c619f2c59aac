"""Which models a name in a request means, for a key that may use them. Pure.

An id, `namespace/servedName`, means the model that has it, always. A served name alone means a model of a namespace
that whoever made the key has named: of its `defaultNamespace`, else of those that its patterns name without a wildcard.
So nobody else's model can take a name's place nor make it ambiguous.
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
    """

    models: tuple[Model, ...] = ()
    across: bool = False


def find(asked: str, key: Key, ids: Iterable[Model], served: Iterable[Model], *, several: bool) -> Found:
    """Find who is meant.

    Args:
        asked: the name in the request.
        key: whose request it is.
        ids: models of this id.
        served: models of this served name.
        several: whether models of several namespaces can be behind this gateway.
    """
    if exact := tuple(model for model in ids if key.may_use(model.id)):
        return Found(exact)
    called = _called(asked, key, served, several=several)
    if key.names_namespaces:
        return Found(_of(called, {key.default_namespace}) or _of(called, key.namespaces))
    return Found(called, across=several and bool(called))


def _called(asked: str, key: Key, served: Iterable[Model], *, several: bool) -> tuple[Model, ...]:
    """Return the models of a served name that the key may use by that name."""
    usable = (model for model in served if key.may_use(model.id))
    return tuple(model for model in usable if not (several and _could_be_anothers(asked, key, model)))


def _of(models: tuple[Model, ...], namespaces: Collection[str | None]) -> tuple[Model, ...]:
    return tuple(model for model in models if model.namespace in namespaces)


def _could_be_anothers(asked: str, key: Key, model: Model) -> bool:
    """Whether a served name reads as an id in another namespace, that of a model that is there or is not.

    A key that names its namespaces, and could not use that id, means its own: `lmsys/vicuna-13b` is a good served name.
    """
    namespace, slash, _ = asked.partition("/")
    if not slash or namespace == model.namespace or not NAMESPACE.fullmatch(namespace):
        return False
    return not key.names_namespaces or key.may_use(asked) or namespace in (*key.namespaces, key.default_namespace)
