"""Rollback to a kept revision: the spec in its snapshot. Pure; the operator then scales the revision up."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vicuna_contract import names as c
from vicuna_operator.api.validation import parse_spec
from vicuna_operator.errors import PluginError, SpecError
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.plugin.model_objects import ModelObjects
from vicuna_operator.resources.identity import merge_key
from vicuna_operator.resources.images import Images

__all__ = ["choose_revision", "managers_of", "spec_of_revision", "stated_revisions"]

# Tools that apply manifests repeatedly, by their manager's name in metadata.managedFields
_GITOPS = ("argocd", "flux", "kustomize-controller", "helm-controller", "helm", "fleet", "rancher", "config-sync")
_OWN = ("replicas", "autoscaling", "rollout")  # of serving: not part of a revision


def choose_revision(objects: ModelObjects, wanted: str | None) -> DeploymentView:
    """Find the revision to go back to: the requested one, else the last complete one that the spec does not make.

    Raises:
        PluginError: it is not kept, or there is none.
    """
    kept = [item for item in objects.deployments if not item.meta.deleting]
    return _named(kept, wanted) if wanted is not None else _last_good(objects, kept)


def _named(kept: Sequence[DeploymentView], wanted: str) -> DeploymentView:
    for item in kept:
        if item.revision == wanted:
            return item
    names = ", ".join(sorted(item.revision for item in kept)) or "none"
    raise PluginError(f"revision {wanted} is not kept (kept: {names}); spec.storage.keepRevisions says how many are")


def _last_good(objects: ModelObjects, kept: Sequence[DeploymentView]) -> DeploymentView:
    stated = stated_revisions(objects)
    others = [item for item in kept if item.revision not in stated]
    others = [item for item in others if not _is_restart(objects, item, stated)]
    good = [(item.completed, item) for item in others if item.completed is not None]
    if not good:
        raise PluginError("no other kept revision was ever complete; see `kubectl vicuna history`")
    active = objects.revision_in("active")
    return max(good, key=lambda entry: (entry[1].revision == active, entry[0]))[1]


def _is_restart(objects: ModelObjects, item: DeploymentView, stated: set[str]) -> bool:
    """Tell whether a revision differs from the present one only by a restart: a rollback to it would change nothing."""
    spec = objects.model.spec
    present = [other for other in objects.deployments if other.revision in stated]
    if spec is None or not any(_serves_with(item) == _serves_with(other) for other in present):
        return False
    images = item.images_for(spec) or Images(item.image, item.engine_image)
    return item.is_restart_of(spec, item.artifact_id, images)


def _serves_with(item: DeploymentView) -> tuple[str | None, ...]:
    return item.merge_key, item.image, item.engine_image


def stated_revisions(objects: ModelObjects) -> set[str]:
    """Return the kept revisions that the present spec makes; several where they differ in a default image only."""
    if objects.model.spec is None:
        return set()
    made = {item.revision for item in objects.deployments if _serves(objects, item, objects.body["spec"])}
    target = objects.revision_in("target")
    return {target} if target in made else made


def spec_of_revision(objects: ModelObjects, item: DeploymentView) -> dict[str, Any]:
    """Return the present spec with the parts that make the revision put back; replicas and rollout stay.

    Where two kept revisions differ only in default images, these are stated: otherwise the operator could not know
    which of them is meant.

    Raises:
        PluginError: the Deployment has no snapshot, or the spec it gives makes another revision.
    """
    snapshot = _snapshot(item)
    spec = _restored(objects, snapshot)
    rivals = [other for other in objects.deployments if other is not item and _serves(objects, other, spec)]
    if rivals:
        spec["serving"] = {**_images_of(item), **spec["serving"]}
    if not _serves(objects, item, spec):
        raise PluginError(
            f"the snapshot of {item.meta.name} does not make revision {item.revision}: another version of the operator"
            " made it; set the spec by hand"
        )
    return spec


def managers_of(body: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (manager, field) for each changed field that a tool which applies manifests owns."""
    changed = list(_changes(body.get("spec") or {}, after, ()))
    found = []
    for entry in body["metadata"].get("managedFields") or ():
        manager = str(entry.get("manager", ""))
        if not manager.lower().startswith(_GITOPS):
            continue
        owned = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        found += [(manager, "spec." + ".".join(path)) for path in changed if _owns(owned, path)]
    return found


def _snapshot(item: DeploymentView) -> dict[str, Any]:
    try:
        snapshot = json.loads(item.meta.annotations[c.ANNOTATION_SPEC_SNAPSHOT])
        return {"weights": dict(snapshot["weights"]), **snapshot}
    except (KeyError, TypeError, ValueError):
        raise PluginError(
            f"Deployment {item.meta.name} has no valid annotation {c.ANNOTATION_SPEC_SNAPSHOT}; set the spec by hand"
        ) from None


def _restored(objects: ModelObjects, snapshot: Mapping[str, Any]) -> dict[str, Any]:
    before = objects.body.get("spec") or {}
    serving = before.get("serving") or {}
    kept = {key: serving[key] for key in _OWN if key in serving}
    return {
        **before,
        "weights": snapshot["weights"],
        "serving": {**(snapshot.get("serving") or {}), **kept},
        "merge": {**(before.get("merge") or {}), **(snapshot.get("merge") or {})},
        "storage": _restored_storage(objects, before.get("storage") or {}, snapshot.get("storage") or {}),
    }


def _restored_storage(objects: ModelObjects, before: Mapping[str, Any], snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return to the claim of the snapshot: one of the user's, or the one that the operator made."""
    storage, claim = dict(before), snapshot.get("claimName")
    if claim is not None:
        for name in ("size", "storageClassName"):  # of a claim the operator makes
            storage.pop(name, None)
        storage["claimName"] = claim
    elif storage.pop("claimName", None) is not None:
        storage["size"] = objects.claim_sizes.get(f"{objects.model.name}-weights", "")
    return storage


def _serves(objects: ModelObjects, item: DeploymentView, spec: Mapping[str, Any]) -> bool:
    try:
        parsed = parse_spec(spec, name=objects.model.name)
    except SpecError as error:
        raise PluginError(f"the spec of that revision is no longer valid: {error}") from error
    images = item.images_for(parsed)
    if images is None or merge_key(parsed) != item.merge_key:
        return False
    return item.is_made_by(parsed, item.artifact_id, images)


def _images_of(item: DeploymentView) -> dict[str, str]:
    found = {"image": item.default_image or item.image}
    beside = item.default_engine_image or item.engine_image
    return found if beside is None else {**found, "engineImage": beside}


def _changes(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _changes(before.get(key), after.get(key), (*path, key))
    elif before not in (after, {}, [], None) or after not in (before, {}, [], None):
        yield path


def _owns(owned: Any, path: Sequence[str]) -> bool:
    """Tell whether a fieldsV1 set has the field, or a part of it.

    Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
    """
    for name in path:
        if not isinstance(owned, Mapping) or f"f:{name}" not in owned:
            return False
        owned = owned[f"f:{name}"]
    return True
