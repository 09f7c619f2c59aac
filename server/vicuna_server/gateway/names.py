"""Which models a name in a request means, for a key that may use them. Pure.

An id, `namespace/servedName`, means the model that has it, always. A served name alone means a model of a namespace
that whoever made the key has named: of its `defaultNamespace`, else of those that its patterns name without a wildcard.
So nobody else's model can take a name's place nor make it ambiguous.
"""

from collections.abc import Iterable
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
    exact = tuple(model for model in ids if key.may_use(model.id))
    if exact:
        return Found(exact)
    called = [model for model in served if key.may_use(model.id)]
    if several:
        called = [model for model in called if not _could_be_anothers(asked, key, model)]
    if home := tuple(model for model in called if model.namespace == key.default_namespace):
        return Found(home)
    if key.names_namespaces:
        return Found(tuple(model for model in called if model.namespace in key.namespaces))
    return Found(tuple(called), across=several and bool(called))


def _could_be_anothers(asked: str, key: Key, model: Model) -> bool:
    """Whether a served name reads as an id in another namespace, that of a model that is there or is not.

    A key that names its namespaces, and could not use that id, means its own: `lmsys/vicuna-13b` is a good served name.
    """
    namespace, slash, _ = asked.partition("/")
    if not slash or namespace == model.namespace or not NAMESPACE.fullmatch(namespace):
        return False
    return not key.names_namespaces or key.may_use(asked) or namespace in (*key.namespaces, key.default_namespace)
