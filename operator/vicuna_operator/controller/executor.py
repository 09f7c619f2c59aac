"""Carries out a plan's actions, with an exception for each way in which one can fail."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.model import Model
from vicuna_operator.errors import (
    UNPROCESSABLE,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
)
from vicuna_operator.kube.port import Kube, ref_of
from vicuna_operator.planning.actions import Action, Apply, Create, Delete, Patch, Ref, summary
from vicuna_operator.resources import claim

__all__ = ["ActionRefusedError", "NameTakenError", "RelabelledError", "StaleError", "execute", "is_ours"]

logger = logging.getLogger(__name__)


class NameTakenError(Exception):
    """A Create met an object of that name that is not ours."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(f"{ref.kind} {ref.name} is not ours")
        self.ref = ref


class RelabelledError(Exception):
    """A Create met an object of ours without the label that the watches select by, and the label cannot be restored."""

    def __init__(self, ref: Ref, found: str) -> None:
        super().__init__(f"{ref.kind} {ref.name}: label {c.LABEL_MODEL} is {found!r}")
        self.ref = ref


class StaleError(Exception):
    """The plan rests on a state that has changed since: plan again."""


class ActionRefusedError(Exception):
    """The API server refuses an action and would refuse it again: the model's status must say so."""

    def __init__(self, description: str, error: KubeError, *, invalid: bool) -> None:
        super().__init__(f"{description}: {error}")
        self.description = description
        self.error = error
        self.invalid = invalid  # the object itself is invalid, which is the spec's fault


async def execute(kube: Kube, model: Model, actions: Sequence[Action]) -> None:
    """Carry out actions in order, up to the first that fails.

    Raises:
        NameTakenError: a foreign object holds a name.
        RelabelledError: an object of ours has lost the label by which it is found.
        StaleError: an object changed or went away meanwhile.
        ActionRefusedError: the API server finds an action wrong or forbidden.
        UnavailableError: the API server cannot be reached; try again.
    """
    for action in actions:
        description = summary(action)
        try:
            done = await _execute_one(kube, model, action)
        except (NotFoundError, ConflictError) as error:
            raise StaleError(f"{description}: {error}") from error
        except (InvalidError, ForbiddenError) as error:
            invalid = isinstance(action, Create) and error.status == UNPROCESSABLE
            raise ActionRefusedError(description, error, invalid=invalid) from error
        if done:
            logger.info("%s/%s: %s", model.namespace, model.name, description)


async def _execute_one(kube: Kube, model: Model, action: Action) -> bool:
    """Carry out one action; False when there was nothing to do."""
    match action:
        case Create(body):
            try:
                await kube.create(body, model.namespace)
            except AlreadyExistsError:
                await _check_existing(kube, model, body)
                return False
        case Apply(body):
            await kube.apply(body, model.namespace)
        case Patch(ref, uid, body):
            metadata = {**(body.get("metadata") or {}), "uid": uid}
            await kube.patch(ref, model.namespace, {**body, "metadata": metadata})
        case Delete(ref, uid):
            try:
                await kube.delete(ref, model.namespace, uid=uid)
            except NotFoundError:
                return False
    return True


async def _check_existing(kube: Kube, model: Model, body: Mapping[str, Any]) -> None:
    ref = ref_of(body)
    found = await kube.get(ref, model.namespace)
    if found is None:
        raise StaleError(f"{ref.kind} {ref.name} came and went")
    if is_ours(model, found):
        await _put_label_back(kube, model, ref, found)
        return
    if _is_leftover(model, found):
        raise StaleError(f"{ref.kind} {ref.name} of the former {model.name} awaits garbage collection")
    raise NameTakenError(ref)


async def _put_label_back(kube: Kube, model: Model, ref: Ref, found: Mapping[str, Any]) -> None:
    """Restore the label that the watches select by."""
    if _label_of(found) == model.name:
        return
    metadata = {"uid": found["metadata"]["uid"], "labels": {c.LABEL_MODEL: model.name}}
    after = await kube.patch(ref, model.namespace, {"metadata": metadata})
    if _label_of(after) != model.name:
        raise RelabelledError(ref, _label_of(after))


def _label_of(body: Mapping[str, Any]) -> str:
    return str((body["metadata"].get("labels") or {}).get(c.LABEL_MODEL, ""))


def is_ours(model: Model, body: Mapping[str, Any]) -> bool:
    """Tell whether an object belongs to this model: by its controller, or (a kept claim) by its labels."""
    metadata = body["metadata"]
    owner = _controller(metadata)
    if owner is not None:
        return bool(owner.get("uid") == model.uid)
    return body.get("kind") == "PersistentVolumeClaim" and claim.is_ours(model, metadata.get("labels") or {})


def _is_leftover(model: Model, body: Mapping[str, Any]) -> bool:
    owner = _controller(body["metadata"])
    return owner is not None and owner.get("kind") == c.KIND and owner.get("name") == model.name


def _controller(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    return owners[0] if owners else None
