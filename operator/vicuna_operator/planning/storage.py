"""The claim that holds a model's artifacts: created, adopted, expanded; never shrunk, never deleted."""

from collections.abc import Iterator, Sequence

from vicuna_contract.quantity import parse_quantity
from vicuna_operator.api.conditions import Reason
from vicuna_operator.api.model import Model
from vicuna_operator.api.types import StorageSpec
from vicuna_operator.planning.actions import Action, Create, Patch, Ref
from vicuna_operator.planning.observed import ClaimView
from vicuna_operator.resources.claim import claim_changes, claim_owners, is_ours, storage_claim
from vicuna_operator.resources.common import claim_name, spec_of

__all__ = ["claim_step", "growth", "unfollowed"]


def claim_step(model: Model, claim: ClaimView | None) -> tuple[list[Action], tuple[str, str] | None]:
    """Create or adopt the operator's claim; return reason and message of what blocks that, if anything does."""
    name = claim_name(model)
    if claim is not None and claim.meta.deleting:
        return [], (Reason.CLAIM_PENDING, f"PersistentVolumeClaim {name} is being deleted; waiting until it is gone")
    if spec_of(model).storage.claim_name is not None:
        if claim is not None:
            return [], None
        message = f"spec.storage.claimName: PersistentVolumeClaim {name} does not exist; create it in {model.namespace}"
        return [], (Reason.CLAIM_NOT_FOUND, message)
    if claim is None:
        return [Create(storage_claim(model))], None
    if not is_ours(model, claim.meta.labels):
        message = (
            f"PersistentVolumeClaim {name} was not made for this model; name it in spec.storage.claimName to use it"
        )
        return [], (Reason.NAME_CONFLICT, message)
    wanted = claim_owners(model)
    change = claim_changes(model, claim.meta.labels, claim.foreign)
    if claim.meta.owner_uid != (model.uid if wanted else None):
        change["ownerReferences"] = wanted
    return ([Patch(_ref(name), claim.meta.uid, {"metadata": change})] if change else []), None


def growth(model: Model, claim: ClaimView | None) -> Sequence[Action]:
    """Expand the claim where the spec asks for more than it has; its StorageClass must allow that.

    This action comes last in a plan: where the StorageClass refuses it, everything else has been done.
    """
    size = spec_of(model).storage.size
    if claim is None or claim.meta.deleting or size is None or not claim.requested:
        return ()
    if not is_ours(model, claim.meta.labels) or parse_quantity(size) <= parse_quantity(claim.requested):
        return ()
    body = {"spec": {"resources": {"requests": {"storage": str(size)}}}}
    return [Patch(_ref(claim.meta.name), claim.meta.uid, body)]


def unfollowed(model: Model, claim: ClaimView | None) -> Sequence[str]:
    """Report the stated fields that an existing claim cannot follow: what it has instead, and the next step."""
    if claim is None or claim.meta.deleting:
        return ()
    storage, found = spec_of(model).storage, []
    if storage.claim_name is None and is_ours(model, claim.meta.labels):
        found = [*_size(storage, claim), *_class(storage, claim)]
    if _other_mode(storage, claim):
        found.append(("accessMode", storage.access_mode, ", ".join(claim.access_modes)))
    move = (
        "or create another claim and name it in spec.storage.claimName: the weights are merged onto it, and the pods"
        " move there"
    )
    return [
        f"spec.storage.{name} says {stated}, and PersistentVolumeClaim {claim.meta.name} has {has}, which cannot be"
        f" changed: set the field to {has}, {move}"
        for name, stated, has in found
    ]


def _size(storage: StorageSpec, claim: ClaimView) -> Iterator[tuple[str, str, str]]:
    if storage.size is not None and claim.requested and parse_quantity(storage.size) < parse_quantity(claim.requested):
        yield "size", str(storage.size), claim.requested


def _class(storage: StorageSpec, claim: ClaimView) -> Iterator[tuple[str, str, str]]:
    if storage.storage_class_name is not None and storage.storage_class_name != claim.storage_class:
        yield "storageClassName", storage.storage_class_name or '""', claim.storage_class or '""'


def _other_mode(storage: StorageSpec, claim: ClaimView) -> bool:
    """Tell whether the claim's access modes contradict the spec; a claim of the user's own may offer more."""
    if not claim.access_modes or storage.access_mode in claim.access_modes:
        return False
    return storage.claim_name is None or storage.access_mode == "ReadWriteMany"


def _ref(name: str) -> Ref:
    return Ref("v1", "PersistentVolumeClaim", name)
