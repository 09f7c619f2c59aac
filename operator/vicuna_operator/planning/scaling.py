"""What is done to the Deployments that exist: their replicas and marks are written, the oldest idle ones go."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from vicuna_contract import names as c
from vicuna_operator.planning.actions import Action, Delete, NewEvent, Patch, Ref
from vicuna_operator.planning.deployments import DeploymentView
from vicuna_operator.planning.rollout import AnnotationChanges

__all__ = ["last_use", "prune", "resize"]


def resize(
    live: Sequence[DeploymentView], sizes: Mapping[str, int], annotations: Mapping[str, AnnotationChanges]
) -> tuple[list[Action], list[NewEvent]]:
    """Write replicas and marks in one call each; tell where somebody else had set the replicas."""
    actions: list[Action] = []
    new_events: list[NewEvent] = []
    for item in live:
        size, change = sizes[item.revision], dict(annotations.get(item.revision, {}))
        body: dict[str, object] = {}
        change |= _template_noted(item)
        if item.replicas != size or item.set_replicas != size:
            body["spec"] = {"replicas": size}
            change[c.ANNOTATION_REPLICAS] = str(size)
            if item.replicas != size and item.set_replicas not in (None, item.replicas):
                message = f"Deployment {item.meta.name} was scaled to {item.replicas} by hand; scale the VicunaModel"
                new_events.append(NewEvent("Warning", "ScaledByHand", f"{message} instead: it goes back to {size}"))
        if change:
            body["metadata"] = {"annotations": change}
            actions.append(Patch(_ref(item), item.meta.uid, body))
    return actions, new_events


def _template_noted(item: DeploymentView) -> dict[str, str]:
    """Note the pod template as the API server took it, at first sight, and what a newer one fills in.

    What somebody has changed since is not noted: it is told, until it is put back.
    """
    noted = item.template.noted
    if not item.template.fingerprint or item.altered or item.made_with == noted:
        return {}
    return {c.ANNOTATION_TEMPLATE: noted}


def prune(
    live: Sequence[DeploymentView], in_use: Sequence[DeploymentView | None], sizes: Mapping[str, int], keep: int
) -> list[Action]:
    """Delete what was used longest ago, revisions that never were complete first; `keep` idle ones stay."""
    idle = [item for item in live if item not in in_use and not (sizes[item.revision] or item.replicas or item.current)]
    idle.sort(key=last_use, reverse=True)
    return [Delete(_ref(item), item.meta.uid) for item in idle[keep:]]


def last_use(item: DeploymentView) -> tuple[datetime, str]:
    """Order revisions by when they were complete last; those that never were come first."""
    return (item.completed or datetime.min.replace(tzinfo=UTC), item.meta.name)


def _ref(item: DeploymentView) -> Ref:
    return Ref("apps/v1", "Deployment", item.meta.name)
