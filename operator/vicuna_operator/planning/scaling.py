"""What is done to existing Deployments: replicas and annotations are written, the oldest idle ones are deleted."""

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
    """Write replicas and annotations in one call each; report replicas that somebody else had set."""
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
    """Record the pod template as the API server first stored it, and again when a newer one adds fields.

    A change by somebody else is not recorded: it stays reported as drift.
    """
    noted = item.template.noted
    if not item.template.fingerprint or item.altered or item.made_with == noted:
        return {}
    return {c.ANNOTATION_TEMPLATE: noted}


def prune(
    live: Sequence[DeploymentView], in_use: Sequence[DeploymentView | None], sizes: Mapping[str, int], keep: int
) -> list[Action]:
    """Delete the revisions that were used longest ago, never complete ones first; `keep` idle ones stay."""
    idle = [item for item in live if item not in in_use and not (sizes[item.revision] or item.replicas or item.current)]
    idle.sort(key=last_use, reverse=True)
    return [Delete(_ref(item), item.meta.uid) for item in idle[keep:]]


def last_use(item: DeploymentView) -> tuple[datetime, str]:
    """Return the sort key of a revision: when it was complete last; those that never were come first."""
    return (item.completed or datetime.min.replace(tzinfo=UTC), item.meta.name)


def _ref(item: DeploymentView) -> Ref:
    return Ref("apps/v1", "Deployment", item.meta.name)
