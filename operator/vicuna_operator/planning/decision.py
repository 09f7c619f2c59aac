"""What a decision rests on, in a few fields: one line of the operator's log per pass, at level debug."""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_operator.api.model import Model
from vicuna_operator.planning.actions import Action, summary
from vicuna_operator.planning.serving_stage import ServingStage
from vicuna_operator.planning.weights_stage import WeightsStage

__all__ = ["decision_fields"]


def decision_fields(
    model: Model,
    weights: WeightsStage,
    serving: ServingStage,
    status: Mapping[str, Any],
    actions: Sequence[Action],
    again: float | None,
) -> Mapping[str, object]:
    """Return what was observed and decided; empty fields are left out."""
    fields: dict[str, object] = {
        "generation": model.generation,
        "reason": status.get("reason"),
        "weights": weights.reason,
        "artifact": weights.artifact_id,
        "attempt": weights.attempt,
        **_serving_fields(serving),
        "actions": [summary(action) for action in actions],
        "again": None if again is None else round(again, 1),
    }
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _serving_fields(serving: ServingStage) -> Mapping[str, object]:
    fleet, target, active = serving.fleet, serving.target_deployment, serving.active
    since, situation = target.waiting if target is not None else (None, "")
    return {
        "rollout": serving.rollout.state.name,
        "way": target.auto_strategy if target is not None else None,
        "target": serving.target,
        "active": active.revision if active is not None else None,
        "wanted": fleet.wanted,
        "scale": serving.scale.reason if serving.scale is not None else None,
        "sizes": dict(serving.sizes),
        "ready": {item.revision: ready for item in fleet.live if (ready := fleet.ready(item.revision))},
        "pods": {item.revision: item.current for item in fleet.live if item.current},
        "leaving": len(fleet.terminating),
        "lost": len(serving.lost),
        "waits": f"{situation} since {since:%H:%M:%S}" if since is not None else None,
    }
